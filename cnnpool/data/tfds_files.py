"""Opens files prepared by TensorFlow Datasets (TFDS) without TensorFlow; never downloads."""

from collections.abc import Iterator
import contextlib
import os
from typing import Any

from cnnpool import extras
from cnnpool.data.images import DataError

FORMATS = ("array_record", "tfrecord")  # if both are there, the first one is used


def data_root(data_dir: str | None) -> str:
    """TFDS's folder: the one given, else TFDS_DATA_DIR, else TFDS's default."""
    return data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"


def open_builder(root: str, name: str, *, about: str = "") -> Any:
    """TFDS's builder for the newest version under `root`, made from its files alone.

    Args:
      root: TFDS's folder.
      name: TFDS's name of the data set: NAME or NAME/CONFIG, optionally followed by :VERSION.
      about: a note on its preparation for the message, such as the size of the download.

    Raises:
      DataError: if it is missing, damaged, or neither array_record nor tfrecord.
    """
    with extras.needed("tfds"):
        import tensorflow_datasets as tfds  # here: takes 0.3 s, not needed for other data

    name, _, wanted = name.partition(":")
    folder = tfds.core.Path(root).expanduser() / name
    versions = [
        path.parent
        for path in folder.glob("*/dataset_info.json")
        if tfds.core.Version.is_valid(path.parent.name)
        and (not wanted or tfds.core.Version(path.parent.name).match(wanted))
    ]
    if not versions and (below := _configs_below(folder)):
        raise DataError(
            f"{name} has several configs in {folder}; choose one: "
            f"{', '.join(f'{name}/{one}' for one in below)}"
        )
    if not versions:
        raise DataError(
            f"no {name}: expected {folder}/{wanted or 'VERSION'}/dataset_info.json, which does not "
            "exist. If the data is elsewhere, set data.data_dir or TFDS_DATA_DIR to the folder "
            f"that contains {name}/. To prepare it{about}, run in any environment with both "
            f"tensorflow_datasets and tensorflow:\n  {_prepare(name, root)}"
        )
    newest = max(versions, key=lambda path: tfds.core.Version(path.name))
    try:
        builder = tfds.builder_from_directory(newest)
        formats = {fmt.value for fmt in builder.info.available_file_formats()}
    except Exception as error:  # TFDS also passes on exceptions of protobuf and json
        raise DataError(
            f"TFDS cannot read the description of the data in {newest}: {error}. Delete the "
            f"folder and prepare it again:\n  {_prepare(name, root)}"
        ) from error
    if not formats.intersection(FORMATS):
        raise DataError(
            f"{newest} holds {name} as {', '.join(sorted(formats))}; expected array_record or "
            "tfrecord, which are read without TensorFlow. To convert it, where TensorFlow is "
            "installed:\n"
            f"  tfds convert_format --dataset_version_dir={newest} "
            "--out_file_format=array_record\nor prepare it again in another folder:\n"
            f"  {_prepare(name, 'OTHER_FOLDER')}"
        )
    return builder


def _configs_below(folder: Any) -> list[str]:
    """Names of a data set's configs; each has its own versions."""
    found = folder.glob("*/*/dataset_info.json")
    return sorted({path.parent.parent.name for path in found})


def _prepare(name: str, root: str) -> str:
    """The command that downloads and prepares the data."""
    return (
        'python -c "import tensorflow_datasets as tfds; '
        f"tfds.builder('{name}', data_dir='{root}', file_format='array_record')"
        '.download_and_prepare()"'
    )


@contextlib.contextmanager
def reading(builder: Any, split: str) -> Iterator[None]:
    """Converts exceptions of the readers to a DataError that names the split and its files.

    Args:
      builder: TFDS's builder of the data set.
      split: name of the split.

    Raises:
      DataError: in place of the readers' exceptions.
    """
    try:
        yield
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        known = builder.info.splits
        files = ", ".join(str(path) for path in known[split].filepaths) if split in known else "-"
        raise DataError(
            f"cannot read the {split} split of {builder.name} from {builder.data_path}: {error}. A "
            f"file may be truncated or damaged ({files}): delete {builder.data_path} and "
            "prepare or copy it again"
        ) from error
