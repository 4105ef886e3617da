"""Reads pickles without running any of their code.

A pickle may name any function and have it called. Here it may name what its reader knows, and gets
what the reader has for it; whatever else it names is never looked up: it is refused, or an object
that does nothing stands for it (`cnnpool.importing.stand_ins`). What is known describes arrays
while the pickle is read; arrays are built from the descriptions afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
import pickle
import pickletools
from typing import Any

from cnnpool.errors import CnnpoolError
from cnnpool.importing.stand_ins import stand_in

_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")

# (module, name), and what a pickle gets for it. A pickle can change attributes of what it gets:
# functions have to be made anew for every pickle, and nothing may be a class of ours.
Known = Mapping[tuple[str, str], Any]


class StateDictError(CnnpoolError):
    """A file of parameters cannot be read, or does not fit the network."""


class Unpickler(pickle.Unpickler):
    """Builds containers, and what a reader has for the names that it knows.

    Args:
      file: with the pickle.
      known: names that may be asked for.
      expected: what a pickle should hold, and the cure, for the error.
      stand_ins: whether objects that do nothing stand for all other names.

    Attributes:
      asked: names that are stood in for.
    """

    def __init__(self, file: Any, known: Known, *, expected: str, stand_ins: bool = False):
        super().__init__(file, encoding="utf-8")
        self.asked: list[str] = []
        self._file = file
        self._known = known
        self._expected = expected
        self._stand_ins = stand_ins

    def load(self) -> Any:
        """The pickle at the file's position.

        Raises:
          StateDictError: if it is damaged so that reading it would fill the memory, or asks for
            what is not known.
          Exception: of many kinds, pickle's own, if it is damaged otherwise.
        """
        start = self._file.tell()
        check_memo(self._file)
        self._file.seek(start)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """What there is for a name.

        Raises:
          StateDictError: if it is not known, and nothing may stand for it.
        """
        if (module, name) in self._known:
            return self._known[module, name]
        if not self._stand_ins:
            raise self.unwanted(f"{module}.{name}")
        self.asked.append(f"{module}.{name}")
        return stand_in(module, name)

    def unwanted(self, label: str) -> StateDictError:
        """The error for a pickle that asks for something else than it should hold."""
        return StateDictError(f"its pickle asks for {label}; expected {self._expected}")


def check_memo(file: Any) -> None:
    """Refuses a pickle that numbers an object far higher than there are objects.

    Pickle keeps numbered objects in an array as long as the highest number: four changed bytes ask
    for 34 GB.

    Raises:
      StateDictError: if an object's number exceeds that of the operations before it.
    """
    try:
        for count, (operation, number, _) in enumerate(pickletools.genops(file)):
            if operation.name in _NUMBERING and number is not None and number > count:
                raise StateDictError(
                    f"its pickle is damaged: object {number} after {count} operations"
                )
    except StateDictError:
        raise
    except Exception:  # of damaged operations; reading it raises pickle's own error
        return


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
