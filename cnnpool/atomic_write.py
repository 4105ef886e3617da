"""Files that are either whole or not there."""

from collections.abc import Callable
import os
from pathlib import Path
import tempfile

from cnnpool import storage


def write_atomically(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Lets `write` fill a file beside `path`, then renames it to `path`.

    What is for a bucket is filled on the disk, then uploaded.

    Args:
      path: the destination; its folder is made if absent. An existing file is
        replaced only once the new one is whole.
      write: called with the path of the file beside.
      durable: waits until the disk has the content, so that a machine that loses its power leaves
        no empty file; False is for what is written every few seconds.

    Raises:
      OSError: if the file cannot be written; nothing that existed is lost.
      StorageError: if a bucket refuses it.
    """
    if storage.is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / path.name
            write(local)
            storage.upload(local, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        if durable and beside.is_file():
            _onto_disk(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _onto_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
