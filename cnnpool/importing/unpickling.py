"""Reads pickles without running any of their code.

A pickle can name any function and have it called. This unpickler resolves only names from a given
table, to the functions in that table. No other name is ever looked up: it raises an error, or is
replaced by a placeholder that does nothing (`cnnpool.importing.stand_ins`). The functions in the
table return descriptions of arrays; the arrays are built from them after the pickle has been read.
"""

from collections.abc import Callable, Mapping, Sequence
import pickle
import pickletools
from typing import Any

from cnnpool.errors import CnnpoolError
from cnnpool.importing.stand_ins import stand_in

_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")

# {(module, name) in a pickle: what the name resolves to}. A pickle can set attributes of these
# objects, so functions must be created anew for every pickle, and classes must not be among them.
Known = Mapping[tuple[str, str], Any]


class StateDictError(CnnpoolError):
    """A file of parameters cannot be read, or does not fit the network."""


class Unpickler(pickle.Unpickler):
    """Builds containers, and resolves only the names in a table.

    Args:
      file: the file with the pickle.
      known: the table of names that may occur in the pickle.
      expected: what the pickle should contain and how to make it so, for the error message.
      stand_ins: whether placeholders replace all other names; otherwise, they are errors.

    Attributes:
      asked: the names that were replaced by placeholders.
    """

    def __init__(self, file: Any, known: Known, *, expected: str, stand_ins: bool = False):
        super().__init__(file, encoding="utf-8")
        self.asked: list[str] = []
        self._file = file
        self._known = known
        self._expected = expected
        self._stand_ins = stand_ins

    def load(self) -> Any:
        """Reads the pickle at the file's current position.

        Raises:
          StateDictError: if the pickle contains a name that is not allowed, or is damaged so that
            reading it would exhaust the memory.
          Exception: any of pickle's exceptions, if it is damaged in another way.
        """
        start = self._file.tell()
        check_memo(self._file)
        self._file.seek(start)
        return super().load()

    def find_class(self, module: str, name: str) -> Any:
        """Resolves a name in the pickle.

        Raises:
          StateDictError: if the name is not in the table and placeholders are not allowed.
        """
        if (module, name) in self._known:
            return self._known[module, name]
        if not self._stand_ins:
            raise self.unwanted(f"{module}.{name}")
        self.asked.append(f"{module}.{name}")
        return stand_in(module, name)

    def unwanted(self, label: str) -> StateDictError:
        """The error for a pickle with a name that is not allowed."""
        return StateDictError(f"its pickle asks for {label}; expected {self._expected}")


def check_memo(file: Any) -> None:
    """Checks that the memo indices of a pickle are no larger than its number of operations.

    pickle stores memoized objects in an array that is as long as the largest index, so that four
    corrupted bytes can make it allocate 34 GB.

    Raises:
      StateDictError: if an index exceeds the number of preceding operations.
    """
    try:
        for count, (operation, number, _) in enumerate(pickletools.genops(file)):
            if operation.name in _NUMBERING and number is not None and number > count:
                raise StateDictError(
                    f"its pickle is damaged: object {number} after {count} operations"
                )
    except StateDictError:
        raise
    except Exception:  # damaged operations: reading the pickle will raise pickle's own error
        return


def replaced(value: Any, kind: type, build: Callable[[Any], Any]) -> Any:
    """Replaces every object of a type in a value, including those in nested dicts and lists.

    Args:
      value: the content of a pickle.
      kind: the type of the objects to replace, which describe arrays.
      build: maps a description to the array.

    Returns:
      The new value; mappings have become dicts, and sequences lists.
    """
    if isinstance(value, kind):
        return build(value)
    if isinstance(value, Mapping):
        return {name: replaced(item, kind, build) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [replaced(item, kind, build) for item in value]
    return value
