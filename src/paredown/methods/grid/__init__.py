"""Sets of allowed values."""
