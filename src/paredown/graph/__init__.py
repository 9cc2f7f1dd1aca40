"""One traced view of a model, and surgery on it. `ops` and `spec` need no torch; the rest does."""
