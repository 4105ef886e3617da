"""The units of a network that count as layers, and their depths."""

from collections.abc import Callable, Sequence
import re

Depths = Callable[[Sequence[str]], list[int | None]]  # k of each unit; None if not plotted

_SIDE_BRANCH = re.compile(r"(?:.*/)?(?:shortcut|squeeze|excite)_")
_STARTS_LAYER = re.compile(r"(?:.*/)?[^/]*(?:conv|linear)[^/]*")
_IDENTITY = re.compile(r"(?:.*/)?drop(?:out|_connect)[^/]*")


def depths(units: Sequence[str]) -> list[int | None]:
    """k of the units that figures plot; None for the others.

    One point per convolution or linear layer, k = 1..K: its last unit, after activation, pooling
    and the addition of a shortcut, before the next such layer (docs/protocol.md, "Sensitivities").
    Convolutions of shortcuts and of squeeze-excite are off the main path and are not counted;
    dropout does nothing in inference.

    Args:
      units: names in forward order.
    """
    main = [name for name in units if not _SIDE_BRANCH.match(name)]
    last_units: list[str] = []
    for name in main:
        if _STARTS_LAYER.fullmatch(name):
            last_units.append(name)
        elif last_units and not _IDENTITY.fullmatch(name):
            last_units[-1] = name
    order = {name: k for k, name in enumerate(last_units, start=1)}
    return [order.get(name) for name in units]
