"""Importances of channels."""
