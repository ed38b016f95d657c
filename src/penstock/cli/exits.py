"""Exit statuses: what a command line ends with."""

OK = 0
MISSED = 1  # an objective, a capacity or a replayed plan
BAD_INPUT = 2
BUG = 70
INTERRUPTED = 130


class ReaderGoneError(Exception):
    """Error for a pipe whose reader has closed it."""
