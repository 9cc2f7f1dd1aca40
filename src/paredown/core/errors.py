"""The errors a user can cause. Each message is one line: the value, what is allowed, what to do."""


class BadInput(ValueError):
    """Wrong use or bad input; the terminal prints its one line and exits with 2."""


class Damaged(BadInput):
    """A file that fails its own checksum or cannot be what it says it is."""


class Busy(BadInput):
    """Another process is working on the same run folder."""
