"""Where a progress bar is shown, how often it is drawn, and what time it says is left.

In a terminal a bar is drawn at most twice a second. Anywhere else, as in a log file or a notebook,
a line is written every half minute, so that what is done sooner writes none. Of several joined
processes the first shows bars.
"""

from collections.abc import MutableMapping
import sys
import time
from typing import Any

from tqdm import tqdm

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 30.0


class ProgressBar(tqdm):
    """Estimates the time left from what was computed here, the first, compiling piece left out.

    Programs are compiled during the first piece, for a minute, whether the work takes an hour or
    ten seconds; and pieces that an earlier start left on disk take no time.

    Args:
      total: number of pieces; None if it is not known.
      what: the label.
      unit: what one piece is.
      done: number of pieces that an earlier start left.
      compiles: whether programs are compiled during the first piece.
      shown: whether to show it; None: in the first process.
    """

    def __init__(
        self,
        total: int | None,
        what: str,
        unit: str,
        *,
        done: int = 0,
        compiles: bool = False,
        shown: bool | None = None,
    ):
        # Where the rate is counted from: a time, and how many pieces were done then.
        self._since: tuple[float, float] | None = None if compiles else (time.monotonic(), done)
        terminal = sys.stderr.isatty()
        super().__init__(
            total=total,
            desc=what,
            unit=unit,
            initial=done,
            mininterval=TERMINAL_SECONDS if terminal else LOG_SECONDS,
            delay=0 if terminal else LOG_SECONDS,
            miniters=0,
            disable=not (_in_first_process() if shown is None else shown),
        )

    def update(self, n: int | float | None = 1) -> bool | None:
        """Counts what was computed."""
        drawn = super().update(n)
        if self._since is None:
            self._since = time.monotonic(), self.n
        return drawn

    def found(self, count: int | float) -> None:
        """Counts what was there already."""
        if self._since is not None:
            self._since = self._since[0], self._since[1] + count
        super().update(count)

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        """tqdm's, with no rate before there is one."""
        shown = super().format_dict
        began, first = self._since or (0.0, self.n)
        seconds = time.monotonic() - began
        # With no progress since `initial` tqdm shows a question mark.
        rate = (self.n - first) / seconds if self.n > first and seconds > 0 else None
        return {**shown, "rate": rate, "initial": shown["n"]}


def say(text: str) -> None:
    """Prints a line to stderr, above the bars."""
    tqdm.write(text, file=sys.stderr)


def _in_first_process() -> bool:
    from cnnpool.devices import (
        distributed,  # here: the launcher, which is alone, has no use for jax
    )

    return distributed.is_first()
