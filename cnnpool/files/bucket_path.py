"""Paths in buckets as `pathlib.Path`s."""

from pathlib import PosixPath

from etils.epath.gpath import PosixGPath


class BucketPath(PosixGPath, PosixPath):
    """A path in a bucket, for functions that take a `pathlib.Path`."""

    def absolute(self) -> "BucketPath":
        """Returns the path itself: paths in buckets are always absolute."""
        return self
