"""Progress bars: where they are shown, how often they are updated, and the estimated time left.

In a terminal, a bar is updated at most twice a second. Elsewhere, as in a log file or a notebook, a
line is written every 30 seconds; tasks that finish sooner write none. Of several joined processes,
only the first shows bars.
"""

from collections.abc import MutableMapping
import sys
import time
from typing import Any

from tqdm import tqdm

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 30.0


class ProgressBar(tqdm):
    """A progress bar that estimates the time left only from steps computed by this process.

    The estimate excludes the first step if programs are compiled during it, which may take longer
    than all other steps, and steps that an earlier process left on disk, which take no time.

    Args:
      total: number of steps; None if unknown.
      what: the label.
      unit: the unit of one step.
      done: number of steps that an earlier process has completed.
      compiles: whether programs are compiled during the first step.
      shown: whether to show the bar; None: only in the first process.
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
        # Start of the rate's estimate: a time, and the number of steps done at that time.
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
        """Counts computed steps."""
        drawn = super().update(n)
        if self._since is None:
            self._since = time.monotonic(), self.n
        return drawn

    def found(self, count: int | float) -> None:
        """Counts steps that were already on disk."""
        if self._since is not None:
            self._since = self._since[0], self._since[1] + count
        super().update(count)

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        """The fields of tqdm, with the rate of computed steps; None before there is one."""
        shown = super().format_dict
        began, first = self._since or (0.0, self.n)
        seconds = time.monotonic() - began
        # With initial = n, tqdm shows a question mark as long as there is no rate.
        rate = (self.n - first) / seconds if self.n > first and seconds > 0 else None
        return {**shown, "rate": rate, "initial": shown["n"]}


def say(text: str) -> None:
    """Prints a line to stderr, above the bars."""
    tqdm.write(text, file=sys.stderr)


def _in_first_process() -> bool:
    # Here, because the launcher does not need jax.
    from cnnpool.devices import distributed

    return distributed.is_first()
