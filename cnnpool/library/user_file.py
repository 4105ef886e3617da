"""A network in a user's own Python file, by its name: `my_net.py:features`, `my_net.py:make()`.

The file is run, as `python my_net.py` would run it, but for its name.
"""

from collections.abc import Callable, Iterator
import contextlib
import difflib
import hashlib
import importlib.util
import inspect
from pathlib import Path
import sys
import traceback
from types import ModuleType
from typing import Any, NamedTuple

from cnnpool.errors import CnnpoolError

_CALL = "()"
_MOST_NAMES = 8
_PACKAGE = Path(__file__).parents[1]


class FunctionError(CnnpoolError):
    """A user's file, or what it names, cannot be measured."""


class Reference(NamedTuple):
    """What a user has named.

    Attributes:
      path: of the file, as it was given.
      name: in the file; with dots for attributes.
      called: whether what the name stands for is called, and what it returns is meant.
    """

    path: Path
    name: str
    called: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.name}{_CALL if self.called else ''}"

    @property
    def label(self) -> str:
        """In figures: "my_net:features"."""
        return f"{self.path.stem}:{self.name}"


def parse(text: str) -> Reference:
    """FILE.py:NAME or FILE.py:NAME(), for an argument parser.

    Raises:
      ValueError: if it is neither.
    """
    path, colon, name = text.rpartition(":")
    called = name.endswith(_CALL)
    name = name.removesuffix(_CALL)
    if not colon or not path.endswith(".py") or not all(map(str.isidentifier, name.split("."))):
        raise ValueError(
            f"--function={text}: expected FILE.py:NAME, the network or function NAME of a file, or "
            "FILE.py:NAME(), what NAME returns when it is called without arguments"
        )
    return Reference(Path(path), name, called)


def checksum(reference: Reference) -> str:
    """SHA-256 of the file.

    Raises:
      FileNotFoundError: if it is not there.
    """
    return hashlib.sha256(_existing(reference).read_bytes()).hexdigest()


def module(reference: Reference) -> ModuleType:
    """The file as a module; it is run, with its folder first in `sys.path`.

    Raises:
      FileNotFoundError: if it is not there.
      FunctionError: if it raises.
    """
    path, shown = _existing(reference).resolve(), reference.path
    # Another module may have been imported under that name, as for a file torch.py.
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_function"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # pickles and dataclasses look there
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    with told(reference, f"{shown} cannot be run:"):
        spec.loader.exec_module(found)
    return found


def find(reference: Reference, file: ModuleType) -> Any:
    """What a reference stands for: a network, or a function from images to activations.

    Args:
      reference: file and name.
      file: that `module` returned.

    Raises:
      FunctionError: if the file has no such name, or the name is of something that has to be called
        first, or cannot be called without arguments, or raises.
    """
    found: Any = file
    for part in reference.name.split("."):
        if not hasattr(found, part):
            raise FunctionError(f"{reference.path} has no {part!r}; {_nearest(part, found)}")
        found = getattr(found, part)
    if not reference.called:
        _check_maker(found, reference)
        return found
    _check_arguments(found, reference)
    with told(reference, f"{reference} raised"):
        made = found()
    if made is None:
        raise FunctionError(
            f"{reference} returned None; expected a network, or a function from images to "
            "{layer: activations}"
        )
    return made


@contextlib.contextmanager
def told(reference: Reference, what: str, after: str = "") -> Iterator[None]:
    """Turns errors of a user's code into one message, with its line; cnnpool's own pass.

    Args:
      reference: whose file is named.
      what: begins the message.
      after: ends it where the error is not cnnpool's.

    Raises:
      FunctionError: in the place of such an error.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = Path(frames[-1].filename).is_relative_to(_PACKAGE)
        if ours and isinstance(error, CnnpoolError | ValueError):
            raise
        line = _line_in(error, reference.path)
        if isinstance(error, ModuleNotFoundError | OSError) and line is None:
            raise  # of a package or file that cnnpool needs for the network; commands tell them
        words = f"{type(error).__name__}: {error}"
        where = f" ({reference.path}, line {line})" if line else ""
        raise FunctionError(f"{what} {words}{where}{'' if ours else after}") from error


def _existing(reference: Reference) -> Path:
    path = reference.path
    if not path.is_file():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")])
        hint = f"; did you mean {path.with_name(near[0])}?" if near else ""
        raise FileNotFoundError(f"--function: there is no file {path}{hint}")
    return path


def _line_in(error: BaseException, path: Path) -> int | None:
    """The last line of a file that an error came through; None if it did not."""
    own = path.resolve()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == own]
    if not lines and isinstance(error, SyntaxError) and error.filename == str(own):
        return error.lineno
    return lines[-1] if lines else None


def _nearest(name: str, found: Any) -> str:
    names = [one for one, value in vars(found).items() if not _is_hidden(one, value)]
    near = difflib.get_close_matches(name, names, cutoff=0.4)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"it has {', '.join(names[:_MOST_NAMES]) or 'no names'}"


def _is_hidden(name: str, value: Any) -> bool:
    return name.startswith("_") or inspect.ismodule(value)


def _check_maker(found: Any, reference: Reference) -> None:
    """Raises FunctionError for a class, or a function that takes no images."""
    if isinstance(found, type):
        raise FunctionError(
            f"{reference} is a class; expected a network: --function='{reference}()' makes one "
            "without arguments"
        )
    if inspect.isfunction(found) and not _takes(found, None):
        raise FunctionError(
            f"{reference} takes no images; if it returns a network, give --function='{reference}()'"
        )


def _check_arguments(found: Any, reference: Reference) -> None:
    """Raises FunctionError for what cannot be called without arguments."""
    name = str(reference).removesuffix(_CALL)
    if not callable(found):
        raise FunctionError(f"{name} cannot be called; leave out the parentheses")
    if not _takes(found):
        raise FunctionError(
            f"{reference} needs arguments; leave out the parentheses if it takes images and "
            "returns {layer: activations}"
        )


def _takes(function: Callable[..., Any], *arguments: Any) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # of what is written in C
        return True
    return True
