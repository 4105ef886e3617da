"""Errors that a user can fix; commands print them without a traceback."""

from collections.abc import Collection
import difflib


class CnnpoolError(Exception):
    """An error whose message says what was expected, what was got, and how to fix it."""


EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: run the same command again to continue
EXIT_PIPE = 141  # 128 + SIGPIPE


class PreemptedError(CnnpoolError):
    """A signal asked this process to stop; what was computed is saved."""


def check_known(name: str, known: Collection[str], what: str) -> None:
    """Raises ValueError, with similar names as hints, if `name` is not one of `known`.

    Args:
      name: the given name.
      known: the valid names.
      what: what the name is for, such as a field or a flag, for the message.
    """
    if name not in known:
        near = difflib.get_close_matches(str(name), known)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"{what} is {name!r}; expected one of {sorted(known)}{hint}")
