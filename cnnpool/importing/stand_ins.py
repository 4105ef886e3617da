"""Placeholders for objects in a pickle that are not needed: they accept any call and do nothing.

Training programs save schedulers, counters, arguments and devices together with tensors. Their
classes and functions are never looked up, imported or run.
"""

from typing import Any


class StandIn:
    """A placeholder for an object in a pickle, of which only the name is known.

    Attributes:
      label: the name in the pickle, MODULE.NAME.
    """

    label = ""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "StandIn":
        """Accepts and ignores all arguments."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any):
        pass

    def __call__(self, *_args: Any, **_kwargs: Any) -> "StandIn":
        """Returns another placeholder, since the object may be a function."""
        return type(self)()

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def _ignore(self, *_items: Any) -> None:
        pass

    append = extend = add = update = _ignore


def stand_in(module: str, name: str) -> type[StandIn]:
    """A class of placeholders for the objects of one name.

    Args:
      module: the module that the pickle names.
      name: the name of a class or function in the module.
    """
    return type("StandIn", (StandIn,), {"label": f"{module}.{name}"})


def is_stand_in(value: Any) -> bool:
    """Whether a value is a placeholder, or a class of placeholders, as for a `torch.dtype`."""
    return isinstance(value, StandIn) or (isinstance(value, type) and issubclass(value, StandIn))
