"""Finds the configs that are installed with cnnpool, by name and from any folder."""

import os
from pathlib import Path

from cnnpool.errors import check_known

FOLDER = Path(__file__).with_name("configs")


def names() -> list[str]:
    """The names of the installed configs, which are `configs/NAME.py` in a checkout."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def located(text: str) -> str:
    """Converts the value of --config to FILE.py or FILE.py:PRESET.

    An existing file is used unchanged. NAME without a suffix, and configs/NAME.py if there is no
    such file, refer to an installed config.

    Args:
      text: for example "cifar10:cpu", "configs/cifar10.py:cpu" or "~/mine.py".

    Raises:
      ValueError: if no installed config has the name, or if FILE.py is a folder or a named pipe.
    """
    place, colon, preset = text.partition(":")
    place = os.path.expanduser(place)
    path = Path(place)
    if path.suffix and path.exists() and not path.is_file():
        raise ValueError(f"--config={text}: expected a Python file, got a folder or a named pipe")
    if path.is_file() or (path.suffix and path.parent.name != "configs"):
        return f"{place}{colon}{preset}"
    if path.suffix:
        ours = FOLDER / path.name
        return f"{ours if ours.is_file() else place}{colon}{preset}"
    check_known(place, names(), "--config")
    return f"{FOLDER / place}.py{colon}{preset}"
