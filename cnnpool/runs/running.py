"""A process that works in a working directory: alone there, watched, stopped by signals.

SIGTERM and SIGUSR1 are what clusters send before they take a machine away, SIGINT is Ctrl-C. They
end `Running.call` at once, whatever it computes; what was computed before is then saved, and the
process ends with status 75, which asks for the same command again. A second Ctrl-C does not wait
for that.
"""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path
import queue
import signal
import threading
import time
from typing import Any

import jax

from cnnpool.devices import distributed, runtime
from cnnpool.errors import EXIT_PREEMPTED, CnnpoolError, PreemptedError
from cnnpool.runs import lease, run_status
from cnnpool.runs.run_status import Status

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Running:
    """What a process does in a working directory; `running` makes one.

    Attributes:
      workdir: the directory.
      signal: the name of the signal that asked to stop, or None.
    """

    def __init__(self, workdir: Path):
        self.workdir = workdir
        self.signal: str | None = None
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        self._listening = False
        self._status = Status(run_status.RUNNING)
        self._written = 0.0
        self._marks: list[tuple[float, int]] = []

    def call(self, function: Callable, *arguments: Any) -> Any:
        """The result of a function, its arrays computed; gives it up if a signal comes.

        The function runs in a thread, since a signal reaches Python only between its own steps,
        and a compiled program or a compilation may take minutes. What is given up goes on in the
        background, and its result is lost.

        Args:
          function: must not change anything that is needed afterwards.
          *arguments: of it.

        Raises:
          PreemptedError: if a signal asked to stop, before or during the call.
        """
        if not self._listening:
            return function(*arguments)
        answers: queue.SimpleQueue = queue.SimpleQueue()
        self._answers = answers
        self._check_not_stopped()

        def work() -> None:
            try:
                answers.put((jax.block_until_ready(function(*arguments)), None))
            except BaseException as error:  # raised below, where it belongs
                answers.put((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            result, error = answers.get()
        except BaseException:  # Ctrl-C: as without a thread, when the call is over
            thread.join()
            raise
        self._check_not_stopped()
        if error is not None:
            raise error
        return result

    def report(self, task: str, epoch: int | None = None, epochs: int | None = None) -> None:
        """Tells how far the work is.

        Args:
          task: "training" or "measuring".
          epoch: epochs done; None leaves both as they were.
          epochs: of the whole training, where that is known.
        """
        now, before = time.monotonic(), self._status
        eta = None
        if epoch is None:
            epoch, epochs = before.epoch, before.epochs
        elif epochs is not None:
            eta = self._seconds_left(now, epoch, epochs)
        self._status = Status(run_status.RUNNING, task, epoch, epochs, eta)
        if task != before.task or now - self._written >= run_status.LEAST_SECONDS:
            self._write(self._status)

    def _seconds_left(self, now: float, epoch: int, epochs: int) -> float | None:
        """At the rate since the first report of progress: compilation does not count."""
        if not self._marks or (len(self._marks) == 1 and epoch > self._marks[0][1]):
            self._marks.append((now, epoch))
        began, first = self._marks[-1]
        if len(self._marks) < 2 or epoch <= first:
            return None
        return (epochs - epoch) * (now - began) / (epoch - first)

    def _write(self, status: Status) -> None:
        self._status, self._written = status, time.monotonic()
        if distributed.is_first():
            run_status.write(self.workdir, status)

    def record(self, error: BaseException) -> BaseException:
        """Writes how an error ends the work: it failed, or is only to be started again.

        Returns:
          The error that is the cause: where a process is gone because it failed, its failure.
        """
        if distributed.lost_process(error) is not None:
            failure = run_status.read_failure(self.workdir)
            if failure is not None:
                error = distributed.OtherProcessError(str(failure.error))
        if isinstance(error, RuntimeError | AssertionError):
            error = runtime.device_error() or error
        restart = isinstance(error, KeyboardInterrupt) or (
            distributed.exit_status(error) == EXIT_PREEMPTED
        )
        self._end(run_status.PREEMPTED if restart else run_status.FAILED, error)
        return error

    def _end(self, state: str, error: BaseException | None = None) -> None:
        line = None if error is None else _first_line(error)
        before = self._status
        status = Status(state, before.task, before.epoch, before.epochs, error=line)
        self._write(status)
        others = distributed.OtherProcessError
        if state == run_status.FAILED and not (distributed.is_first() or isinstance(error, others)):
            run_status.write_failure(self.workdir, status)

    def _check_not_stopped(self) -> None:
        if self.signal is not None:
            raise PreemptedError(
                f"stopped by {self.signal}; give the same command again and it goes on"
            )

    def _stop(self, number: int, _frame: Any) -> None:
        self.signal = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        self._answers.put((None, None))  # SimpleQueue.put may be called from a handler

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        # Only the main thread may listen; and JAX's own handler is what joined processes agree by.
        if threading.current_thread() is not threading.main_thread() or distributed.is_joined():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in SIGNALS}
        self._listening = True
        try:
            yield
        finally:
            self._listening = False
            for number, handler in before.items():
                signal.signal(number, handler)


def _first_line(error: BaseException) -> str:
    """An error of ours in its own words, another with its name."""
    line = next(iter(str(error).strip().splitlines()), "")
    ours = isinstance(error, CnnpoolError) and line
    return line if ours else f"{type(error).__name__}: {line}".removesuffix(": ")


@contextlib.contextmanager
def running(workdir: Path) -> Iterator[Running]:
    """Holds a directory, listens to signals, and keeps `status.json` there.

    Of several joined processes the first does; SIGTERM is then what `distributed.preempted` tells.

    Args:
      workdir: made if absent.

    Raises:
      WorkdirBusyError: if another process works there; its status is left alone.
    """
    process = Running(workdir)
    with contextlib.ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(lease.hold(workdir))
            run_status.forget_failure(workdir)

        distributed.on_first(begin)
        stack.enter_context(process._signals())
        process._write(process._status)
        try:
            yield process
        except BaseException as error:
            process.record(error)
            raise
        process._end(run_status.FINISHED)
