"""One launcher at a time finds which jobs of a root are to be submitted, and submits them."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import time

from cnnpool.launch.engines.engine import EngineError
from cnnpool.runs import lease
from cnnpool.runs.lease import WorkdirBusyError

WAIT_SECONDS = 180.0  # longer than a controller of Slurm that restarts is waited for
POLL_SECONDS = 0.5


@contextlib.contextmanager
def submitting(root: Path) -> Iterator[Callable[[], None]]:
    """Holds a root, after waiting for other launchers, from reading states to noting submissions.

    Args:
      root: holds the jobs' folders.

    Yields:
      A function that lets the next launcher in before the end of the context.

    Raises:
      EngineError: if another launcher does not get through.
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
                        f"for {WAIT_SECONDS:g} s; end it, or give this command again later"
                    ) from error
                time.sleep(POLL_SECONDS)
        yield held.close
