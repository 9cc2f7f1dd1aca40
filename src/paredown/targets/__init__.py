"""Files for runtimes. Reading and running them needs no torch."""
