"""Which weights go together, and how many."""
