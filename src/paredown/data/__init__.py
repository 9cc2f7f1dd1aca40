"""Tasks: one file for each built-in, and readers for the user's own data. Knows only core, and imports no torch."""
