"""The configs that came with the installation, found by name from any folder."""

import os
from pathlib import Path

from cnnpool.errors import check_known

FOLDER = Path(__file__).with_name("configs")


def names() -> list[str]:
    """The names of the configs that came with the installation, `configs/NAME.py` in a checkout."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def located(text: str) -> str:
    """A config as it is given, as FILE.py or FILE.py:PRESET.

    A file that is there is taken as it is; a NAME without an ending, and configs/NAME.py where
    there is no such file, are those of the installation.

    Args:
      text: "cifar10:cpu", "configs/cifar10.py:cpu", "~/mine.py".

    Raises:
      ValueError: if a name is none of the installation's configs.
    """
    place, colon, preset = text.partition(":")
    place = os.path.expanduser(place)
    path = Path(place)
    if path.is_file() or (path.suffix and path.parent.name != "configs"):
        return f"{place}{colon}{preset}"
    if path.suffix:
        ours = FOLDER / path.name
        return f"{ours if ours.is_file() else place}{colon}{preset}"
    check_known(place, names(), "--config")
    return f"{FOLDER / place}.py{colon}{preset}"
