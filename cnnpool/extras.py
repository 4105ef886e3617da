"""Optional dependencies, and the command that installs each: `pip install 'cnnpool[EXTRA]'`."""

from collections.abc import Iterator
import contextlib

from cnnpool.errors import CnnpoolError

# {imported name: extra}; for a library that is in several extras, the most common one.
_EXTRAS = {
    "absl": "train",
    "array_record": "tfds",
    "equinox": "equinox",
    "etils": "train",
    "flax": "train",
    "fsspec": "bucket",
    "gcsfs": "bucket",
    "h5netcdf": "netcdf",
    "h5py": "netcdf",
    "jaxtyping": "train",
    "keras": "keras",
    "matplotlib": "figures",
    "ml_collections": "train",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "optax": "train",
    "orbax": "train",
    "PIL": "train",
    "pyarrow": "parquet",
    "s3fs": "bucket",
    "safetensors": "train",
    "tensorboardX": "train",
    "tensorflow_datasets": "tfds",
    "torch": "torch",
}


class MissingExtraError(CnnpoolError, ModuleNotFoundError):
    """An optional dependency is needed but not installed."""


@contextlib.contextmanager
def needed(extra: str | None = None) -> Iterator[None]:
    """Context for imports of optional dependencies: errors say which extra to install.

    Args:
      extra: the extra of cnnpool; None: found by the name of the library.

    Raises:
      MissingExtraError: if a library that belongs to an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (cure := missing(error, extra)) is None:
            raise
        raise MissingExtraError(cure, name=error.name) from error


def missing(error: ModuleNotFoundError, extra: str | None = None) -> str | None:
    """How to install the library of a failed import; None if it belongs to no extra."""
    library = (error.name or "").partition(".")[0]
    if library not in _EXTRAS:
        return None
    return f"{library} is not installed: pip install 'cnnpool[{extra or _EXTRAS[library]}]'"
