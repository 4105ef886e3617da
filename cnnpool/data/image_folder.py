"""Pictures in a folder: class folders, or all in one.

Only as many as are measured are read, chosen at random among all; what cannot be read is counted,
named and passed over.
"""

from collections.abc import Sequence
import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from tqdm import tqdm

from cnnpool.data import preparation
from cnnpool.data.images import DataError, MeasuredImages, Split
from cnnpool.data.preparation import Sizes

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def build(config: ConfigDict, *, count: int, seed: int) -> MeasuredImages:
    """Images of a folder to measure on.

    Args:
      config: fields `data_dir`, `resize`, `crop`, `mean`, `std`.
      count: images wanted.
      seed: of the choice; a smaller count takes the first of a larger one.

    Raises:
      DataError: if there are too few pictures that can be read.
      ValueError: if a field is impossible.
    """
    if not config.data_dir:
        raise ValueError("--data_dir must name the folder of the images")
    root = Path(config.data_dir).expanduser()
    files, labels, classes = find(root)
    if count > len(files):
        raise DataError(
            f"{root} has {len(files)} pictures ({', '.join(SUFFIXES)}, in it or in folders in it); "
            f"expected at least --num_images={count}"
        )
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(files)))
    chosen = [files[place] for place in order]
    openers = [path.read_bytes for path in chosen]
    sizes = Sizes(config.resize, config.crop)
    found = preparation.read_many(openers, count, sizes, what=f"reading {root.name}")
    unreadable = [(str(chosen[p].relative_to(root)), why) for p, why in found.unreadable.items()]
    if len(found.places) < count:
        raise DataError(
            f"{root} has {len(found.places)} pictures that can be read; expected at least "
            f"--num_images={count}. These could not be read:\n{preparation.named(unreadable)}"
        )
    if unreadable:
        listed = preparation.named(unreadable)
        tqdm.write(f"{len(unreadable)} files could not be read and are left out:\n{listed}")
    return measured(
        found.images,
        [labels[order[place]] for place in found.places],
        config,
        source=f"image folder, {len(files)} pictures",
        classes=classes,
        unreadable=[name for name, _ in unreadable],
    )


def fingerprint(config: ConfigDict) -> str:
    """A checksum of the names and sizes of all pictures.

    Raises:
      DataError: if there is no such folder, or no picture in it.
    """
    root = Path(config.data_dir or ".").expanduser()
    listing = "\n".join(f"{p.relative_to(root)} {p.stat().st_size}" for p in find(root).files)
    return f"names and sizes, sha256 {hashlib.sha256(listing.encode()).hexdigest()[:12]}"


class Pictures(NamedTuple):
    """Pictures of a folder.

    Attributes:
      files: sorted.
      labels: numbers of their class folders in sorted order; -1 without.
      classes: how many class folders there are; None without.
    """

    files: list[Path]
    labels: list[int]
    classes: int | None


def find(root: Path) -> Pictures:
    """All pictures of a folder.

    Raises:
      DataError: if there is no such folder, or no picture in it.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not there; expected a folder of images")
    flat = _pictures(root)
    if flat:
        return Pictures(flat, [-1] * len(flat), None)
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    by_class = [_pictures(folder) for folder in folders]
    files = [path for pictures in by_class for path in pictures]
    if not files:
        raise DataError(
            f"{root} has no pictures: expected {', '.join(SUFFIXES)} in it, or in folders in it, "
            "one a class"
        )
    labels = [label for label, pictures in enumerate(by_class) for _ in pictures]
    return Pictures(files, labels, len(folders))


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())


def measured(
    images: np.ndarray,
    labels: Sequence[int],
    config: ConfigDict,
    *,
    source: str,
    classes: int | None,
    unreadable: Sequence[str] = (),
) -> MeasuredImages:
    """Prepared images as a measurement takes them; a digest of them goes into the source."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()[:12]
    return MeasuredImages(
        test=Split(jnp.asarray(images), jnp.asarray(labels, jnp.int32)),
        mean=tuple(config.mean),
        std=tuple(config.std),
        source=f"{source} (those measured: sha256 {digest})",
        classes=classes,
        unreadable=tuple(unreadable),
    )


def default_config(
    mean: Sequence[float] = preparation.MEAN, std: Sequence[float] = preparation.STD
) -> ConfigDict:
    """The `data` section of an imported network: torchvision's preparation.

    Args:
      mean: of each channel, pixels counting from 0 to 1.
      std: of each channel.

    Raises:
      ValueError: if they are not three finite numbers each, the stds positive.
    """
    if len(mean) != 3 or len(std) != 3 or not np.isfinite([*mean, *std]).all() or min(std) <= 0:
        raise ValueError(f"expected three means and three positive stds, got {mean} and {std}")
    return ConfigDict(
        {
            "name": "image_folder",
            "data_dir": None,
            "resize": preparation.RESIZE,
            "crop": preparation.CROP,
            "mean": tuple(mean),
            "std": tuple(std),
        }
    )
