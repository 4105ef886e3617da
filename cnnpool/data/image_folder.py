"""Pictures in a folder, with or without one subfolder per class.

If the names of all class folders are numbers, these are the classes, as in ImageNet-V2; other names
are numbered in alphabetical order, as in torchvision.

Only the pictures that are measured are read, chosen at random; unreadable ones are listed and
skipped.
"""

from collections.abc import Mapping, Sequence
import hashlib
import os
from pathlib import Path
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data import preparation
from cnnpool.data.images import DataError, MeasuredImages, Split, cure_for_too_few
from cnnpool.data.preparation import Sizes
from cnnpool.devices.progress_bar import say
from cnnpool.files import storage

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_OTHERS = (".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jfif", ".avif", ".heic")
# Files and folders that operating systems create.
_HIDDEN = (".", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found")
_SHOWN = 3  # at most this many classes are listed in a note


def build(config: ConfigDict, *, count: int, seed: int) -> MeasuredImages:
    """The pictures of a folder on which to measure a network.

    Args:
      config: fields `data_dir`, `resize`, `crop`, `mean`, `std`.
      count: number of images.
      seed: seed of the choice; a smaller count takes the first images of a larger one.

    Raises:
      DataError: if there are too few readable pictures.
      ValueError: if a field is out of range.
    """
    root = _root(config)
    files, labels, classes, strays, _, note = find(root)
    outside = [(_shown(path, root), _why_left_out(path, root)) for path in strays]
    if count > len(files):
        raise DataError(
            f"{root} has {len(files)} pictures ({', '.join(SUFFIXES)}, in it or its subfolders); "
            f"expected at least --num_images={count}: {cure_for_too_few(len(files), 'pictures')}"
            f"{_named('. Not counted are', outside)}"
        )
    if note:
        say(note)
    if outside:
        say(f"{len(outside)} pictures are skipped{_named('', outside)}")
    order = np.asarray(jax.random.permutation(jax.random.key(seed), len(files)))
    chosen = [files[place] for place in order]
    openers = [path.read_bytes for path in chosen]
    sizes = Sizes(config.resize, config.crop)
    found = preparation.read_many(openers, count, sizes, what=f"reading {root.name}")
    unreadable = [(_shown(chosen[p], root), why) for p, why in found.unreadable.items()]
    if len(found.places) < count:
        raise DataError(
            f"{root} has {len(found.places)} readable pictures; expected at least "
            f"--num_images={count}{_named('. These could not be read', unreadable)}"
        )
    if unreadable:
        left_out = "files could not be read and are skipped"
        say(f"{len(unreadable)} {left_out}{_named('', unreadable)}")
    return measured(
        found.images,
        [labels[order[place]] for place in found.places],
        config,
        source=f"image folder, {len(files)} pictures",
        classes=classes,
        unreadable=[name for name, _ in unreadable],
    )


def fingerprint(config: ConfigDict) -> str:
    """A checksum of the names and sizes of all pictures, and whether classes are folder numbers.

    Raises:
      DataError: if the folder does not exist or contains no picture.
      ValueError: if no folder is given.
    """
    root = _root(config)
    found = find(root)
    listing = "\n".join(f"{p.relative_to(root)} {p.stat().st_size}" for p in found.files)
    digest = hashlib.sha256(os.fsencode(listing)).hexdigest()[:12]
    by_number = ", classes by number" if found.by_number else ""
    return f"names and sizes, sha256 {digest}{by_number}"


def _root(config: ConfigDict) -> Path:
    if not config.data_dir:
        raise ValueError("--data_dir must name the folder of the images")
    return storage.on_disk(config.data_dir)


def _shown(path: Path, root: Path) -> str:
    """A printable form of a file name, with undecodable bytes escaped."""
    return os.fsencode(path.relative_to(root)).decode(errors="backslashreplace")


def _named(words: str, files: Sequence[tuple[str, str]]) -> str:
    return f"{words}:\n{preparation.named(files)}" if files else ""


class Pictures(NamedTuple):
    """The pictures in a folder.

    Attributes:
      files: paths of the pictures, sorted.
      labels: the classes of their folders; -1 if there are no class folders.
      classes: number of classes; None if there are no class folders.
      strays: pictures that are skipped: outside class folders, in subfolders of class folders, or
        in unsupported formats, and broken links.
      by_number: whether classes are the numbers in folder names and differ from their sorted order.
      note: which folder is which class if the names suggest another order; else empty.
    """

    files: list[Path]
    labels: list[int]
    classes: int | None
    strays: list[Path]
    by_number: bool = False
    note: str = ""


def find(root: Path) -> Pictures:
    """Finds all pictures of a folder: those in its class folders, or in itself if it has none.

    Hidden folders are not classes, and hidden files are not pictures.

    Raises:
      DataError: if the folder does not exist or contains no picture.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"{root} {what}; expected a folder of images")
    flat, others = _pictures(root), _unusable(root)
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not _is_hidden(p))
    by_class = {folder.name: _pictures(folder) for folder in folders}
    files = [path for pictures in by_class.values() for path in pictures]
    if flat and not files:
        return Pictures(flat, [-1] * len(flat), None, others)
    strays = [*flat, *others, *(path for folder in folders for path in _left_out(folder))]
    if not files:
        raise DataError(
            f"{root} has no pictures: expected {', '.join(SUFFIXES)} in it, or in one subfolder "
            "per class"
        )
    by_text = {name: place for place, name in enumerate(by_class)}
    classes = _by_number(by_class) or by_text
    labels = [classes[name] for name, pictures in by_class.items() for _ in pictures]
    count = max(classes.values()) + 1
    empty = [name for name in classes if not by_class[name]]
    note = "\n".join(filter(None, [_note(classes), _note_of_empty(empty)]))
    return Pictures(files, labels, count, strays, classes != by_text, note)


def _by_number(by_class: Mapping[str, Sequence[Path]]) -> dict[str, int] | None:
    """The class of each folder if the names of all folders with pictures are different numbers.

    Classes start from 0; folders named 1..C become 0..C-1. Folders without pictures count as
    classes, too.
    """
    numbers = {name: int(name) for name in by_class if re.fullmatch("[0-9]+", name)}
    if any(pictures and name not in numbers for name, pictures in by_class.items()):
        return None
    found = sorted(numbers.values())
    if len(set(found)) < len(found):
        return None
    first = 1 if found == list(range(1, len(found) + 1)) else 0
    return {name: number - first for name, number in numbers.items()}


def _note(classes: Mapping[str, int]) -> str:
    """Which folder is which class, if the numbers in the names imply another order."""
    names = sorted(classes, key=classes.__getitem__)
    shifted = any(name.isdecimal() and int(name) != classes[name] for name in names)
    if sorted(names) == sorted(names, key=_numbers_in) == names and not shifted:
        return ""
    told = [f"{name} is class {classes[name]}" for name in names]
    shown = told if len(told) <= _SHOWN else [*told[: _SHOWN - 1], "...", told[-1]]
    return f"class folders: {', '.join(shown)}"


def _note_of_empty(names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])
    return f"{len(names)} folders without pictures count as classes: {shown}"


def _left_out(folder: Path) -> list[Path]:
    """Pictures in a class folder that are skipped but that other programs would read."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not _is_hidden(p))
    deeper = [path for one in inner for path in _pictures(one, (*SUFFIXES, *_OTHERS))]
    return [*_unusable(folder), *deeper]


def _unusable(folder: Path) -> list[Path]:
    """Pictures in unsupported formats, and links to pictures that do not exist."""
    broken = [p for p in folder.iterdir() if p.is_symlink() and not p.exists()]
    links = sorted(p for p in broken if p.suffix.lower() in SUFFIXES and not _is_hidden(p))
    return [*_pictures(folder, _OTHERS), *links]


def _why_left_out(path: Path, root: Path) -> str:
    if not path.exists():
        return "a link to a file that does not exist"
    if path.suffix.lower() in _OTHERS:
        return f"expected {', '.join(SUFFIXES)}"
    return "in no class folder" if path.parent == root else "in a folder inside a class folder"


def _numbers_in(name: str) -> list[tuple[int, str]]:
    """A sort key that puts class_2 before class_10."""
    parts = re.findall("[0-9]+|[^0-9]+", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(_HIDDEN)


def _pictures(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> list[Path]:
    return sorted(
        p
        for p in folder.iterdir()
        if p.suffix.lower() in suffixes and p.is_file() and not _is_hidden(p)
    )


def measured(
    images: np.ndarray,
    labels: Sequence[int],
    config: ConfigDict,
    *,
    source: str,
    classes: int | None,
    unreadable: Sequence[str] = (),
) -> MeasuredImages:
    """Prepared images as `MeasuredImages`, with their checksum as part of the source."""
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
    """The `data` section of an imported network: torchvision's preparation of images.

    Args:
      mean: mean of each channel, for pixels scaled to 0..1.
      std: standard deviation of each channel, in the same unit.

    Raises:
      ValueError: unless both are three numbers that are possible for pixels from 0 to 1.
    """
    known = len(mean) == len(std) == 3
    if not (known and all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)):
        raise ValueError(
            "expected three means from 0 to 1 and three positive stds of at most 1, for pixels "
            f"from 0 to 1; got {tuple(mean)} and {tuple(std)}. Divide by 255 if they are for "
            "pixels from 0 to 255"
        )
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
