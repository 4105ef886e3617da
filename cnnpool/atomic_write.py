"""Files that are either whole or not there."""

from collections.abc import Callable
import os
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside `path`, then renames it to `path`.

    Args:
      path: the destination; its folder is made if absent. An existing file is
        replaced only once the new one is whole.
      write: called with the path of the file beside.

    Raises:
      OSError: if the file cannot be written; nothing that existed is lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
