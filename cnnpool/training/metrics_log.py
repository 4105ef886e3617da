"""The record of a run: a CSV that survives a kill, and the same numbers for TensorBoard."""

from collections.abc import Iterator, Sequence
import contextlib
import csv
from pathlib import Path
import tempfile

from tensorboardX import SummaryWriter

from cnnpool.devices import distributed
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically

KEYS = ("epoch", "seed")


class MetricsLog:
    """Rows of metrics, appended and flushed."""

    def append(self, epoch: int, seed: int, **values: float | None) -> None:
        """Adds a network's row; does nothing in this class, for processes that keep no log."""

    def flush(self) -> None:
        """Hands all rows to the operating system, or to the bucket."""


class MetricsFile(MetricsLog):
    """A CSV, and the same rows as TensorBoard events."""

    def __init__(
        self,
        path: Path,
        *,
        resume_epoch: int,
        columns: Sequence[str],
        board: SummaryWriter | None = None,
    ):
        """Opens the file and deletes rows after `resume_epoch`, which will be computed again.

        Columns of an earlier start that are no longer written are kept, after the others.
        """
        self._board = board
        kept = _kept_rows(path, resume_epoch)
        earlier = [name for name in (kept[0] if kept else ()) if name not in (*KEYS, *columns)]
        self._columns = (*KEYS, *columns, *earlier)
        rows = [[row.get(column, "") for column in self._columns] for row in kept]
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
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(f"{name}/seed{seed}", value, epoch)

    def flush(self) -> None:
        """Hands all rows to the operating system, or to the bucket."""
        self._file.flush()
        if self._local != self._path:
            storage.upload(self._local, self._path)
        if self._board is not None:
            self._board.flush()

    def __enter__(self) -> "MetricsFile":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.flush()
        self._file.close()


def _kept_rows(path: Path, resume_epoch: int) -> list[dict[str, str]]:
    """The complete rows of a file up to an epoch; none if there is no file."""
    if not path.exists():
        return []
    whole, _, _torn = path.read_text("utf-8").rpartition("\n")
    rows = [row for row in csv.DictReader(whole.splitlines()) if None not in {*row, *row.values()}]
    return [row for row in rows if int(row["epoch"]) <= resume_epoch]


@contextlib.contextmanager
def open_log(
    workdir: Path, *, resume_epoch: int, columns: Sequence[str], tensorboard: bool
) -> Iterator[MetricsLog]:
    """The log of a run, in the first process; deletes rows and events after an epoch.

    Args:
      workdir: where metrics.csv and, if requested, tensorboard/ are written.
      resume_epoch: the last epoch to keep; later ones will be computed again.
      columns: the columns after epoch and seed.
      tensorboard: whether to write the rows for TensorBoard as well.
    """
    if not distributed.is_first():
        yield MetricsLog()
        return
    with contextlib.ExitStack() as stack:
        board = None
        if tensorboard:
            writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_epoch + 1)
            board = stack.enter_context(writer)
        path = workdir / "metrics.csv"
        yield stack.enter_context(
            MetricsFile(path, resume_epoch=resume_epoch, columns=columns, board=board)
        )
