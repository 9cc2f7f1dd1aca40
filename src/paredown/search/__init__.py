"""Searchers, and the engine that runs, stores and resumes."""
