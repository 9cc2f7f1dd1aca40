"""The verbs of the terminal as functions: each binds the rooms that it needs, and returns values, not text."""
