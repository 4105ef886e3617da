"""A progress bar whose rate ignores skipped pieces and the first, compiling one."""

from collections.abc import MutableMapping
import time
from typing import Any

from tqdm import tqdm


class MeasuringBar(tqdm):
    """Estimates the time left from the rate since the first computed piece.

    Programs are compiled during the first piece, for a minute, whether the measurement takes an
    hour or ten seconds; and pieces that an earlier start left on disk take no time.
    """

    def __init__(self, *args, **options):
        self._since: tuple[float, float] | None = None  # when the first piece ended, at which n
        super().__init__(*args, **options)

    def computed(self, count: int | float) -> None:
        """Counts what was computed."""
        self.update(count)
        if self._since is None:
            self._since = time.monotonic(), self.n

    def found(self, count: int | float) -> None:
        """Counts what was there already."""
        if self._since is not None:
            self._since = self._since[0], self._since[1] + count
        self.update(count)

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        """tqdm's, with no rate before there is one."""
        shown = super().format_dict
        began, first = self._since or (0.0, self.n)
        seconds = time.monotonic() - began
        # With no progress since `initial` tqdm shows a question mark.
        rate = (self.n - first) / seconds if self.n > first and seconds > 0 else None
        return {**shown, "rate": rate, "initial": shown["n"]}
