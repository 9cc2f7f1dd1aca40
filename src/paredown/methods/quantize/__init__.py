"""Fewer bits for a weight or an activation."""
