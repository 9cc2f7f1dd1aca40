"""Lossless codes for integers."""
