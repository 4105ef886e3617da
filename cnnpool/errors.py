"""The base of errors that a user can mend; commands print them without a traceback."""


class CnnpoolError(Exception):
    """Says what was expected, what was got, and what to do."""
