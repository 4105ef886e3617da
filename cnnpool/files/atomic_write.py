"""Atomic writes: a file is either complete or absent."""

from collections.abc import Callable
import os
from pathlib import Path
import tempfile

from cnnpool.files import storage


def write_atomically(path: Path, write: Callable[[Path], object], *, durable: bool = True) -> None:
    """Lets `write` fill a temporary file next to `path`, then renames it to `path`.

    A file in a bucket is first written to disk, then uploaded.

    Args:
      path: the destination; its folder is created if absent. An existing file is
        replaced only once the new one is complete; a symbolic link is followed.
      write: function called with the path of the temporary file.
      durable: whether to wait until the content is on disk (fsync), so that a power failure leaves
        no empty file; use False for files that are written every few seconds.

    Raises:
      OSError: if the file cannot be written; an existing file is then unchanged.
      StorageError: if the upload to a bucket fails.
    """
    if storage.is_remote(path):
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / path.name
            write(local)
            storage.upload(local, path)
        return
    path = target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = _beside(path)
    try:
        check_replaceable_by_file(path)
        write(beside)
        if durable and beside.is_file():
            _onto_disk(beside)
        os.replace(beside, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(beside)):
            raise
        raise _naming(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def target(path: Path) -> Path:
    """The file itself where `path` is a link to one, be it absent yet."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def check_replaceable_by_file(path: Path) -> None:
    """Raises OSError if something else than a file is at `path`: a folder, /dev/null, a pipe."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected the name of the file to write")
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a device or a pipe; expected the name of a file to write")


def check_writable_beside(path: Path) -> None:
    """Raises OSError if no file can be created beside `path`: name too long, disk full, ..."""
    beside = _beside(path)
    try:
        beside.touch()
    except OSError as error:
        raise _naming(path, error) from error
    beside.unlink()


def _naming(path: Path, error: OSError) -> OSError:
    """An error of a file beside `path` as one of `path`: a full disk gives no name at all."""
    return OSError(error.errno, f"{path} cannot be written: {error.strerror}")


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Writes text with `write_atomically`, in UTF-8 regardless of the locale.

    Undecodable bytes of file names (surrogate escapes) are written unchanged.
    """
    content = text.encode("utf-8", "surrogateescape")
    write_atomically(path, lambda beside: beside.write_bytes(content), durable=durable)


def _onto_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
