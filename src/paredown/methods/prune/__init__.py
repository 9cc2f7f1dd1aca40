"""Fewer weights or channels."""
