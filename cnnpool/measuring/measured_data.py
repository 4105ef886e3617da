"""The images on which imported networks, and users' own ones, are measured, by source."""

from collections.abc import Callable
import json
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cnnpool.data import image_arrays, image_folder, imagenet
from cnnpool.data.images import MeasuredImages
from cnnpool.errors import check_known


class Source(NamedTuple):
    """A source of images.

    Attributes:
      build: (data section, count, seed) -> that many images.
      fingerprint: data section -> what identifies its images, without reading them all.
    """

    build: Callable[..., MeasuredImages]
    fingerprint: Callable[[ConfigDict], str]


SOURCES = {
    "image_folder": Source(image_folder.build, image_folder.fingerprint),
    "imagenet": Source(imagenet.build, imagenet.fingerprint),
    "arrays": Source(image_arrays.build, image_arrays.fingerprint),
}


def source(name: str) -> Source:
    """The source of images of a given name.

    Args:
      name: a name in `SOURCES`.

    Raises:
      ValueError: if there is none of that name.
    """
    check_known(name, SOURCES, "--data")
    return SOURCES[name]


def identity(section: ConfigDict) -> dict[str, Any]:
    """What identifies the images of a `data` section, wherever their folder is."""
    fields = {key: value for key, value in section.items() if key != "data_dir"}
    return fields | {"images": source(section.name).fingerprint(section)}


def origin(images: MeasuredImages) -> dict[str, str]:
    """Where images come from: attributes of a result file."""
    return {
        "data_source": images.source,
        "unreadable_files": json.dumps(images.unreadable),
    }
