"""Folders on a disk and in a bucket, gs://BUCKET/... and s3://BUCKET/...; the differences are here.

A path in a bucket has the methods of `pathlib.Path`, by `etils.epath`: its objects are read and
written over the network (fsspec with gcsfs or s3fs). An object is whole or not there; nothing is
appended to one, and nobody can lock one.
"""

from collections.abc import Iterator
import contextlib
import importlib.util
import os
from pathlib import Path
import re
import shutil
import sys
import tempfile

from cnnpool import extras
from cnnpool.errors import CnnpoolError

_LIBRARIES = {"gs": "gcsfs", "s3": "s3fs"}
_BUCKETS = "cnnpool.files.bucket_path"
_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\{[A-Za-z_]\w*\})")
_PROTOCOLS = ("gs", "gcs", "s3")  # as fsspec names them


class StorageError(CnnpoolError, OSError):
    """A bucket cannot be used."""


def path(text: str) -> Path:
    """A place on a disk or in a bucket, as a user types it.

    Raises:
      StorageError: if it has the form of a bucket, and is none, or a library is not installed; or
        if it is no place at all.
    """
    text = _with_variables(text)
    scheme, found, place = text.partition("://")
    if not found:
        return on_disk(text)
    if scheme not in _LIBRARIES or not place.strip("/"):
        raise StorageError(f"{text}: expected a folder, gs://BUCKET/... or s3://BUCKET/...")
    library = _LIBRARIES[scheme]
    if importlib.util.find_spec(library) is None:
        raise StorageError(f"{text} needs {library}: pip install 'cnnpool[bucket]'")
    with extras.needed("bucket"):
        from cnnpool.files.bucket_path import BucketPath  # here: it needs what disks do not

        _forget_listings()
    return BucketPath(text)


def on_disk(text: str) -> Path:
    """A place on a disk, where a bucket cannot be; for what is a folder of many small files.

    A shell does not expand `~` behind `--workdir=`; here it is the home directory. Nor does one see
    `$SCRATCH/a` in single quotes or a list of arguments; here it is the variable, unless something
    of that very name is there.

    Raises:
      StorageError: if it has the form of a bucket, or is no place at all, or names a variable that
        is not set.
    """
    text = _with_variables(text)
    if "://" in text:
        raise StorageError(f"{text}: expected a place on a disk; mount the bucket, and give that")
    if re.match("(gs|s3):", text):
        raise StorageError(f"{text}: a bucket is written with two slashes, gs://BUCKET/...")
    if not text.strip():
        raise StorageError("expected a path, got nothing; is a variable of the shell not set?")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # neither HOME nor an entry in /etc/passwd
        raise StorageError(f"{text}: {error} Give the path without ~") from error


def _with_variables(text: str) -> str:
    """A path with the values of the variables in it."""
    if _VARIABLE.search(text) is None or _begins_with_existing(text):
        return text
    for name in (one[0].strip("${}") for one in _VARIABLE.finditer(text)):
        if not os.environ.get(name):
            raise StorageError(f"{text}: the variable {name} is not set; give the path itself")
    return os.path.expandvars(text)


def _begins_with_existing(text: str) -> bool:
    """Whether what is called with the dollar sign is there, or the folder of it."""
    parts = Path(text).parts
    last = max(i for i, part in enumerate(parts) if "$" in part)
    return Path(*parts[: last + 1]).exists()


def _forget_listings() -> None:
    """Makes files that other processes write visible: fsspec would cache its listings."""
    import fsspec.config

    for protocol in _PROTOCOLS:
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False


def is_remote(place: Path) -> bool:
    """Whether a path is in a bucket."""
    module = sys.modules.get(_BUCKETS)  # where nobody made a bucket's path there is none
    return module is not None and isinstance(place, module.BucketPath)


def remove_tree(folder: Path) -> None:
    """Deletes a folder and all that is in it, if it is there."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.rmtree()  # type: ignore[attr-defined]


def upload(local: Path, place: Path) -> None:
    """Puts a file into a bucket, in the place of what was there.

    Raises:
      StorageError: if the bucket refuses it.
    """
    try:
        place.write_bytes(local.read_bytes())
    except Exception as error:  # every service raises its own
        raise StorageError(
            f"cannot write {place}: {type(error).__name__}: {_first_line(error)}; does the bucket "
            "exist, and may you write there?"
        ) from error


def read_bytes(place: Path) -> bytes:
    """What a file holds.

    Raises:
      OSError: if it cannot be read; StorageError where a bucket refuses it.
    """
    try:
        return place.read_bytes()
    except Exception as error:  # every service raises its own
        if not is_remote(place):
            raise
        raise StorageError(
            f"cannot read {place}: {type(error).__name__}: {_first_line(error)}"
        ) from error


@contextlib.contextmanager
def local_copy(place: Path) -> Iterator[Path]:
    """A file for libraries that read from disks only: itself, or a copy for a while."""
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / place.name
        copy.write_bytes(place.read_bytes())
        yield copy


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
