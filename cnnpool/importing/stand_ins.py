"""What a pickle names and nobody here needs: objects that take everything and do nothing.

Training programs save schedulers, counters, arguments and devices beside tensors. Nothing that such
a name stands for is looked up, imported or run.
"""

from typing import Any


class StandIn:
    """An object of a file, by its name alone; whatever a pickle does to it has no effect.

    Attributes:
      label: MODULE.NAME that the file asks for.
    """

    label = ""

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "StandIn":
        """Takes all arguments."""
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_kwargs: Any):
        pass

    def __call__(self, *_args: Any, **_kwargs: Any) -> "StandIn":
        """Another one: of a name that may be a function that returns a function."""
        return type(self)()

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def _ignore(self, *_items: Any) -> None:
        pass

    append = extend = add = update = _ignore


def stand_in(module: str, name: str) -> type[StandIn]:
    """A class of objects that stand for those of a name.

    Args:
      module: that the file names.
      name: in it.
    """
    return type("StandIn", (StandIn,), {"label": f"{module}.{name}"})


def is_stand_in(value: Any) -> bool:
    """Whether a value is such an object, or such a class itself, as a `torch.dtype` is."""
    return isinstance(value, StandIn) or (isinstance(value, type) and issubclass(value, StandIn))
