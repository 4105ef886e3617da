"""A process in a working directory: it holds the directory, reports its status, obeys signals.

Clusters send SIGTERM or SIGUSR1 before they take a machine away; Ctrl-C sends SIGINT. These signals
end `Running.call` at once, whatever it computes; earlier results are then saved, and the process
exits with status 75, which means that the same command should be run again. A second Ctrl-C exits
without saving.
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
    """The process in a working directory; created by `running`.

    Attributes:
      workdir: the directory.
      signal: the name of the signal that asked the process to stop, or None.
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
        """Calls a function and waits for its arrays; abandons the call if a signal arrives.

        The function runs in a thread, because Python handles signals only between bytecodes of the
        main thread, and a compiled program or a compilation may take minutes. An abandoned call
        continues in the background, and its result is lost.

        Args:
          function: the function; it must not modify anything that is needed afterwards.
          *arguments: its arguments.

        Returns:
          The function's result, with all arrays computed.

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
            except BaseException as error:  # raised again below, in the calling thread
                answers.put((None, error))

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            result, error = answers.get()
        except BaseException:  # a second Ctrl-C: raised after the call ends, as without a thread
            thread.join()
            raise
        self._check_not_stopped()
        if error is not None:
            raise error
        return result

    def report(self, task: str, epoch: int | None = None, epochs: int | None = None) -> None:
        """Reports progress to `status.json`, at most every `LEAST_SECONDS` within a task.

        Args:
          task: "training" or "measuring".
          epoch: number of completed epochs; None keeps the last `epoch` and `epochs`.
          epochs: number of epochs of the whole training, if known.
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
        """Extrapolates the rate since the first completed epochs, which excludes compilation."""
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
        """Writes the status that an error leads to: failed, or preempted.

        Returns:
          The error that is the cause: if another process is gone because it failed, that failure.
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
                f"stopped by {self.signal}; run the same command again to continue"
            )

    def _stop(self, number: int, _frame: Any) -> None:
        self.signal = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        self._answers.put((None, None))  # SimpleQueue.put is safe in a signal handler

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        # Only the main thread can handle signals; joined processes use `distributed.preempted`.
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
    """The first line of an error's message, with the error's type unless it is a CnnpoolError."""
    line = next(iter(str(error).strip().splitlines()), "")
    ours = isinstance(error, CnnpoolError) and line
    return line if ours else f"{type(error).__name__}: {line}".removesuffix(": ")


@contextlib.contextmanager
def running(workdir: Path) -> Iterator[Running]:
    """Holds a directory, handles signals, and keeps `status.json` there up to date.

    Of several joined processes, only the first holds the directory and writes the status; signals
    are then handled by `distributed.preempted`.

    Args:
      workdir: the directory, created if absent.

    Raises:
      WorkdirBusyError: if another process is using the directory, whose status is left unchanged.
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
