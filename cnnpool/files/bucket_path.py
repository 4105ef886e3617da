"""Paths in buckets as `pathlib.Path`s."""

from pathlib import PosixPath

from etils.epath.gpath import PosixGPath


class BucketPath(PosixGPath, PosixPath):
    """A path in a bucket, for functions that take a `pathlib.Path`."""

    def absolute(self) -> "BucketPath":
        """Itself: it starts at the bucket."""
        return self
