"""The report of a run, from its stored JSON alone."""
