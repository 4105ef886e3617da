"""The finished parts of a long measurement, on disk, so that an interruption loses nothing.

A folder next to the result file holds one file per network and transform, with its moments. It is
deleted once the result file exists; another measurement starts it afresh, with a message.
Measurements may differ in what the parts' names say: transforms, shuffles, diffeomorphisms.
"""

from collections.abc import Callable
import json
from pathlib import Path
import zipfile
import zlib

import numpy as np

from cnnpool.devices import distributed
from cnnpool.devices.progress_bar import say
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically, write_text
from cnnpool.instruments.moments import ImageMoments, Moments

_RECORD = "record.json"


def of_parts(record: str) -> str:
    """What identifies parts of the same name: a measurement's record, without what names say.

    A part belongs to one network, diffeomorphism, transform and shuffle number; the shuffle's key
    depends only on that number and the seed.

    Args:
      record: a measurement's record, as JSON.
    """
    fields = json.loads(record)
    del fields["transforms"]
    fields.pop("stages", None)  # of imported networks
    for name in ("shuffles", "deltas", "cutoffs", "noise"):
        fields["settings"].pop(name, None)
    return json.dumps(fields, sort_keys=True)


class Journal:
    """The finished parts of one measurement.

        journal = Journal(Path("a.nc"), record)
        moments = journal.keep("seed0 trained none", compute)  # computed once, then read
        journal.remove()

    Args:
      out: the result file; the folder is `.NAME.parts` next to it.
      record: what identifies parts of the same name, as JSON.
    """

    def __init__(self, out: Path, record: str):
        self._folder = out.with_name(f".{out.name}.parts")
        self._record = record

    def keep(self, name: str, compute: Callable[[], Moments]) -> Moments:
        """The moments of that name: read if they exist, else computed and written.

        In a job of several processes, the first process decides and writes.

        Raises:
          OSError: if they cannot be written, or a process does not see what another one wrote.
        """
        path = self._folder / f"{zlib.crc32(name.encode()):08x}.npz"
        moments = self._find(path, name)
        if distributed.agreed(moments is not None):
            if moments is None:
                raise OSError(f"{path} is not there for all processes; they must share its folder")
            return moments
        moments = compute()
        distributed.on_first(lambda: self._write(path, name, moments))
        return moments

    def _find(self, path: Path, name: str) -> Moments | None:
        if not self._is_ours():
            return None
        try:
            return _read(path, name)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # missing, or incomplete after a crash

    def _write(self, path: Path, name: str, moments: Moments) -> None:
        if not self._is_ours():
            self._begin_anew()
            write_text(self._folder / _RECORD, self._record)
        write_atomically(path, lambda beside: _write(beside, name, moments))

    def _begin_anew(self) -> None:
        """Deletes the parts of another measurement, and prints how it differs."""
        path = self._folder / _RECORD
        if path.is_file():
            both = json.loads(path.read_text("utf-8")), json.loads(self._record)
            from cnnpool.runs import run_config  # here: it needs ml_collections

            changed = "; ".join(run_config.differences(*both))
            say(
                "unfinished parts of another measurement are deleted, this one begins anew: "
                f"{changed}"
            )
        self.remove()

    def remove(self) -> None:
        """Deletes the folder, if it is there."""
        storage.remove_tree(self._folder)

    def _is_ours(self) -> bool:
        path = self._folder / _RECORD
        return path.is_file() and path.read_text("utf-8") == self._record


def _write(path: Path, name: str, moments: Moments) -> None:
    arrays: dict[str, np.ndarray] = {"name": np.array(name), "units": np.array(list(moments))}
    for place, layer in enumerate(moments.values()):
        arrays |= {f"{field}{place}": np.asarray(v) for field, v in layer._asdict().items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _read(path: Path, name: str) -> Moments:
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        if str(file["name"]) != name:
            raise KeyError(name)
        return {
            str(unit): ImageMoments(
                **{field: file[f"{field}{place}"][()] for field in ImageMoments._fields}
            )
            for place, unit in enumerate(file["units"])
        }
