"""The record of a run: a CSV that survives being killed, and a progress bar."""

from collections.abc import Sequence
import csv
from pathlib import Path
import sys
import tempfile

from tqdm import tqdm

from cnnpool.devices import distributed
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.training.stopping import SeedProgress, StoppingRule

KEYS = ("epoch", "seed")
COLUMNS = ("hinge", "backward_fraction", "train_hinge", "validation_error")


class MetricsLog:
    """Rows of metrics, appended and flushed; one per network and block of epochs."""

    def __init__(self, path: Path, *, resume_epoch: int, columns: Sequence[str] = COLUMNS):
        """Opens the file; rows of epochs after `resume_epoch` will be computed again and go."""
        self._columns = (*KEYS, *columns)
        rows = []
        if path.exists():
            table = csv.reader(path.read_text("utf-8").splitlines())
            complete = [row for row in table if len(row) == len(self._columns)]
            rows = [row for row in complete[1:] if int(row[0]) <= resume_epoch]
        write_atomically(path, lambda beside: self._write_all(beside, rows))
        self._path, self._local = path, path
        if storage.is_remote(path):
            self._folder = tempfile.TemporaryDirectory()
            self._local = Path(self._folder.name) / path.name
            self._write_all(self._local, rows)
        self._file = self._local.open("a", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)

    def _write_all(self, path: Path, rows: Sequence[Sequence[str]]) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([self._columns, *rows])

    def append(self, epoch: int, seed: int, **values: float | None) -> None:
        """One row; a value that was not computed is left empty."""
        row = [epoch, seed, *(values.get(column) for column in self._columns[2:])]
        self._writer.writerow(["" if value is None else value for value in row])

    def flush(self) -> None:
        """Hands all rows to the operating system, or to the bucket."""
        self._file.flush()
        if self._local != self._path:
            storage.upload(self._local, self._path)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.flush()
        self._file.close()


def say_where_it_goes_on(epoch: int, *, step: int = 0) -> None:
    """Tells from where a run that was begun before goes on, and what takes the first minute."""
    if not distributed.is_first():
        return
    if epoch or step:
        within = f", step {step} of the next" if step else ""
        tqdm.write(f"going on from epoch {epoch}{within}", file=sys.stderr)
    tqdm.write("compiling the training step ...", file=sys.stderr)


def progress_bar(epoch: int) -> tqdm:
    """A bar over epochs; in a log file it prints a line every 30 seconds at most."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        initial=epoch,
        desc="training",
        unit="epoch",
        mininterval=interval,
        miniters=1,
        disable=not distributed.is_first(),
    )


def expected_end(rule: StoppingRule, progress: Sequence[SeedProgress]) -> int | None:
    """The epoch at which the last network may stop; None until all have interpolated."""
    ends = [seed.stopped_epoch or rule.earliest_stop(seed) for seed in progress]
    known = [end for end in ends if end is not None]
    return max(known) if len(known) == len(ends) else None
