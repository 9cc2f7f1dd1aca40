"""Products of codes of few bits on the host's processor, in C built at install. Only `execute` needs torch."""
