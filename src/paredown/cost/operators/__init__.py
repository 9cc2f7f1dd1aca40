"""Arithmetic of the operators, one small function each; the files are found by themselves."""
