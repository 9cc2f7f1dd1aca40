"""Value types and the catalogue. Knows no other room, and imports no torch."""
