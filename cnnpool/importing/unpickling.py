"""Reads pickles without running any code of theirs.

A pickle may name any function and have it called. Here it may name what its reader knows, and gets
the reader's own stand-ins for it; whatever else it names is refused before it is looked up.
Stand-ins describe arrays while the pickle is read; arrays are built from the descriptions
afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
import pickle
from typing import Any

from cnnpool.errors import CnnpoolError

# (module, name), and what a pickle gets for it. A pickle can change attributes of what it gets:
# functions have to be made anew for every pickle, and nothing may be a class of ours.
Known = Mapping[tuple[str, str], Any]


class StateDictError(CnnpoolError):
    """A file of parameters cannot be read, or does not fit the network."""


class Unpickler(pickle.Unpickler):
    """Builds containers, and what stands for the names that it knows.

    Args:
      file: with the pickle.
      known: names that may be asked for.
      expected: what a pickle should hold, and the cure, for the error.
    """

    def __init__(self, file: Any, known: Known, *, expected: str):
        super().__init__(file, encoding="utf-8")
        self._known = known
        self._expected = expected

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; StateDictError for any other."""
        if (module, name) not in self._known:
            raise StateDictError(f"its pickle asks for {module}.{name}; expected {self._expected}")
        return self._known[module, name]


def replaced(value: Any, kind: type, build: Callable[[Any], Any]) -> Any:
    """A value with every object of a kind in it, in dicts and lists too, replaced.

    Args:
      value: of a pickle; its mappings become dicts, its sequences lists.
      kind: of the descriptions.
      build: makes of a description what it describes.
    """
    if isinstance(value, kind):
        return build(value)
    if isinstance(value, Mapping):
        return {name: replaced(item, kind, build) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [replaced(item, kind, build) for item in value]
    return value
