"""Prepares picture files for testing ImageNet networks, as torchvision does.

The shorter side is resized to 256 pixels, bilinear with antialias, and the central 224 x 224 pixels
are cropped. Pixels are used as stored in the file: EXIF rotations are not applied, transparency is
dropped, and grey and CMYK are converted to RGB.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
import io
import os
from typing import NamedTuple
import warnings

from jaxtyping import UInt8
import numpy as np
from PIL import Image, UnidentifiedImageError

from cnnpool.devices.progress_bar import ProgressBar

RESIZE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_DEEP_MODES = ("I", "F")  # more than eight bits per channel; conversion would clip them
_MOST_PIXELS = 2**27  # pixels of the resized image, half a gigabyte


class UnreadableError(Exception):
    """A file is not a usable picture; the message says why."""


class Sizes(NamedTuple):
    """The shorter side after resizing, and the side of the crop, in pixels."""

    resize: int
    crop: int


class Prepared(NamedTuple):
    """Pictures that could be read.

    Attributes:
      images: in the order of `places`.
      places: their positions among the files that were tried.
      unreadable: why other files could not be read, by position.
    """

    images: UInt8[np.ndarray, "images crop crop 3"]
    places: list[int]
    unreadable: dict[int, str]


def prepare(image: Image.Image, sizes: Sizes) -> UInt8[np.ndarray, "crop crop 3"]:
    """Converts, resizes and crops one picture, as torchvision does with PIL images.

    Args:
      image: a picture of any mode and size.
      sizes: `crop` is at most `resize`.

    Raises:
      UnreadableError: if it has more than eight bits per channel, or one side is too much longer
        than the other.
    """
    check_depth(image)
    short, long = sorted(image.size)
    longer = int(sizes.resize * long / short)
    if longer * sizes.resize > _MOST_PIXELS:
        raise UnreadableError(f"{image.size[0]} x {image.size[1]} pixels: one side is too long")
    size = (sizes.resize, longer) if image.size[0] == short else (longer, sizes.resize)
    rgb = image.convert("RGB")
    rgb = rgb if size == rgb.size else rgb.resize(size, Image.Resampling.BILINEAR)
    left, top = (round((side - sizes.crop) / 2) for side in size)
    return np.asarray(rgb.crop((left, top, left + sizes.crop, top + sizes.crop)))


def check_depth(image: Image.Image) -> None:
    """Raises UnreadableError if a picture has more than eight bits per channel."""
    if image.mode.startswith(_DEEP_MODES):
        raise UnreadableError(f"mode {image.mode}, more than eight bits per channel")


def read(content: bytes, sizes: Sizes) -> UInt8[np.ndarray, "crop crop 3"]:
    """Prepares the picture in the bytes of a file.

    Raises:
      UnreadableError: if it is damaged, truncated or not a picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return prepare(image, sizes)
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:  # Pillow's message contains an address in memory
        raise UnreadableError("cannot identify image file: damaged, or not a picture") from error
    except Exception as error:  # Pillow's decoders raise all kinds of exceptions on damaged files
        raise UnreadableError(f"{type(error).__name__}: {error}") from error


def read_many(
    openers: Sequence[Callable[[], bytes]], count: int, sizes: Sizes, *, what: str
) -> Prepared:
    """Reads the first `count` readable pictures, several in parallel, with a progress bar.

    Args:
      openers: functions that return the bytes of each file, in the order in which to try them.
      count: number of pictures; fewer are returned if there are not enough.
      sizes: sizes for all pictures.
      what: label of the progress bar.
    """
    images = np.empty((min(count, len(openers)), sizes.crop, sizes.crop, 3), np.uint8)
    places: list[int] = []
    unreadable: dict[int, str] = {}
    workers = min(8, os.cpu_count() or 1)
    bar = ProgressBar(len(images), what, "image")
    with bar, warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # Pillow's warnings about odd metadata and large pictures
        for start in range(0, len(openers), 4 * workers):
            tries = pool.map(lambda one: _try(one, sizes), openers[start : start + 4 * workers])
            for place, found in enumerate(tries, start):
                if isinstance(found, str):
                    unreadable[place] = found
                elif len(places) < len(images):
                    images[len(places)] = found
                    places.append(place)
                    bar.update()
            if len(places) == len(images):
                break
    return Prepared(images[: len(places)], places, unreadable)


def _try(opener: Callable[[], bytes], sizes: Sizes) -> UInt8[np.ndarray, "crop crop 3"] | str:
    """A picture, or the reason why it cannot be read."""
    try:
        return read(opener(), sizes)
    except (UnreadableError, OSError) as error:
        return str(error)


def named(reasons: Iterable[tuple[str, str]], *, most: int = 5) -> str:
    """A list of unreadable files for a message, at most `most` of them by name."""
    known = list(reasons)
    lines = [f"  {name}: {reason}" for name, reason in known[:most]]
    return "\n".join(lines + ([f"  and {len(known) - most} more"] if len(known) > most else []))
