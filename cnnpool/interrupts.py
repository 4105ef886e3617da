"""Ctrl-C ends a command with one line and exit status 130, whenever it is pressed.

Python raises KeyboardInterrupt in whatever the main thread is executing. While a command's modules
are imported, no code catches it; in a callback of the garbage collector (JAX has one), Python only
prints it and continues. Hooks of the interpreter handle both cases. Commands that save their work
on Ctrl-C have their own handler; see `cnnpool.runs.running`.
"""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

EXIT_STATUS = 130  # 128 + SIGINT, as in shells
_COMMANDS = ("cnnpool", "launch", "benchmarks")  # packages that are run with python -m
_AGAIN_SECONDS = 0.05


def hook_in_commands() -> None:
    """Calls `hook` if this process was started as `python -m` of one of the project's modules."""
    if _module_run().partition(".")[0] in _COMMANDS:
        hook()


def _module_run() -> str:
    """The module after `python -m`; empty if this process was started differently."""
    spec = sys.modules["__main__"].__spec__
    if spec is not None:
        return spec.name
    looked_up = sys.argv[:1] == ["-m"]  # as long as the module's packages are being imported
    return sys.orig_argv[sys.orig_argv.index("-m") + 1] if looked_up else ""


def hook() -> None:
    """Makes every uncaught interrupt end this process, so that none is lost."""
    sys.excepthook = _uncaught
    sys.unraisablehook = _swallowed
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Ends the process during an import, and raises KeyboardInterrupt at any other time.

    An exception in the import of jaxlib's C++ extensions would abort the process with a core dump.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, b"stopped\n")
            os._exit(EXIT_STATUS)
        frame = frame.f_back
    raise KeyboardInterrupt


def _uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    print("stopped", file=sys.stderr)
    sys.exit(EXIT_STATUS)


def _swallowed(unraisable: Any) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # An interrupt raised here would also be swallowed.
        threading.Timer(_AGAIN_SECONDS, _interrupt_again).start()
    else:
        sys.__unraisablehook__(unraisable)


def _interrupt_again() -> None:
    # To the main thread itself, so that a system call in which it waits is interrupted.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
