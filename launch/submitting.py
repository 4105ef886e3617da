"""Lets only one launcher at a time find and submit the jobs of a root."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import time

from cnnpool.launch.engines.engine import EngineError
from cnnpool.runs import lease
from cnnpool.runs.lease import WorkdirBusyError

WAIT_SECONDS = 180.0  # longer than the wait for a restarting Slurm controller
POLL_SECONDS = 0.5


@contextlib.contextmanager
def submitting(root: Path) -> Iterator[Callable[[], None]]:
    """Waits for other launchers, then holds a root while jobs are found and submitted.

    Args:
      root: the folder that contains the jobs' folders.

    Yields:
      A function that releases the root before the context ends.

    Raises:
      EngineError: if another launcher does not finish within `WAIT_SECONDS`.
    """
    folder = root / "launchers"
    deadline = time.monotonic() + WAIT_SECONDS
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(lease.hold(folder))
                break
            except WorkdirBusyError as error:
                if time.monotonic() > deadline:
                    who = lease.owner(folder) or {"pid": "unknown", "host": "an unknown host"}
                    raise EngineError(
                        f"process {who['pid']} on {who['host']} has been submitting jobs of {root} "
                        f"for {WAIT_SECONDS:g} s; end it, or run this command again later"
                    ) from error
                time.sleep(POLL_SECONDS)
        yield held.close
