"""Paths on disk and in buckets, gs://BUCKET/... and s3://BUCKET/..., and their differences.

A path in a bucket has the methods of `pathlib.Path` (through `etils.epath`); its objects are read
and written over the network (fsspec with gcsfs or s3fs). Objects are written atomically; they can
be neither appended to nor locked.
"""

from collections.abc import Iterator
import contextlib
import hashlib
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
_PROTOCOLS = ("gs", "gcs", "s3")  # fsspec's names


class StorageError(CnnpoolError, OSError):
    """A bucket cannot be used."""


def path(text: str) -> Path:
    """Parses a path on disk or in a bucket, as a user types it.

    Raises:
      StorageError: if the text is empty or a malformed bucket URL, or if the bucket's library is
        not installed.
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
        from cnnpool.files.bucket_path import BucketPath  # here: needs libraries for buckets only

        _forget_listings()
    return BucketPath(text)


def on_disk(text: str) -> Path:
    """Parses a path on disk, for folders that cannot be in a bucket (many small files).

    `~` is expanded to the home directory, which shells do not do after `--workdir=`. Variables are
    expanded too (`$SCRATCH/a`), which no shell does in single quotes or in a list of arguments,
    unless a file or folder of that literal name exists.

    Raises:
      StorageError: if the text is empty or the URL of a bucket, if `~` cannot be expanded, or if a
        variable is not set.
    """
    text = _with_variables(text)
    if "://" in text:
        raise StorageError(f"{text}: expected a path on disk; mount the bucket and give that path")
    if re.match("(gs|s3):", text):
        raise StorageError(f"{text}: expected two slashes in a bucket's URL, gs://BUCKET/...")
    if not text.strip():
        raise StorageError("expected a path, got an empty text; is a shell variable not set?")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # neither HOME nor an entry in /etc/passwd
        raise StorageError(f"{text}: {error} Give the path without ~") from error


def from_anywhere(text: str) -> str:
    """A path, as a user types it, that is the same in every working directory.

    Relative paths on disk become absolute; URLs, and paths that begin with `~` or a variable, are
    the same everywhere.
    """
    begins_with_variable = _VARIABLE.match(text) and not _begins_with_existing(text)
    is_fixed = "://" in text or text.startswith("~") or begins_with_variable
    return text if is_fixed else os.path.abspath(text)


def _with_variables(text: str) -> str:
    """Expands the variables in a path."""
    if _VARIABLE.search(text) is None or _begins_with_existing(text):
        return text
    for name in (one[0].strip("${}") for one in _VARIABLE.finditer(text)):
        if not os.environ.get(name):
            raise StorageError(f"{text}: the variable {name} is not set; give the path itself")
    return os.path.expandvars(text)


def _begins_with_existing(text: str) -> bool:
    """Whether the part of a path up to its last dollar sign exists under its literal name."""
    parts = Path(text).parts
    last = max(i for i, part in enumerate(parts) if "$" in part)
    return Path(*parts[: last + 1]).exists()


def _forget_listings() -> None:
    """Turns off fsspec's cache of listings, so that files written by other processes are seen."""
    import fsspec.config

    for protocol in _PROTOCOLS:
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False


def is_remote(place: Path) -> bool:
    """Whether a path is in a bucket."""
    module = sys.modules.get(_BUCKETS)  # absent as long as no path in a bucket was created
    return module is not None and isinstance(place, module.BucketPath)


def remove_tree(folder: Path) -> None:
    """Deletes a folder and its content, if it exists."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        folder.rmtree()  # type: ignore[attr-defined]


def upload(local: Path, place: Path) -> None:
    """Uploads a file to a bucket, replacing any existing object.

    Raises:
      StorageError: if the upload fails.
    """
    try:
        place.write_bytes(local.read_bytes())
    except Exception as error:  # each service raises its own exceptions
        raise StorageError(
            f"cannot write {place}: {type(error).__name__}: {_first_line(error)}. Check that the "
            "bucket exists and that you have permission to write there"
        ) from error


def read_bytes(place: Path) -> bytes:
    """The content of a file on disk or in a bucket.

    Raises:
      OSError: if it cannot be read; for buckets, its subclass StorageError.
    """
    try:
        return place.read_bytes()
    except Exception as error:  # each service raises its own exceptions
        if not is_remote(place):
            raise
        raise StorageError(
            f"cannot read {place}: {type(error).__name__}: {_first_line(error)}"
        ) from error


def checksum(place: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def local_copy(place: Path) -> Iterator[Path]:
    """A path on disk, for libraries that need one: the file itself, or a temporary copy of it."""
    if not is_remote(place):
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / place.name
        copy.write_bytes(place.read_bytes())
        yield copy


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
