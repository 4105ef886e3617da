"""One job in several processes: how they find one another, which one writes, and how they end.

Processes find one another through command-line arguments, in a Slurm job step (`srun -n K`) or on
a TPU pod. In an ordinary, single process the functions here do nothing. Only the first process
writes files and prints. When a process dies, the others notice at once by a failed collective, or
within `HEARTBEAT_SECONDS` by its missing heartbeat; they exit with `EXIT_PREEMPTED`, or JAX aborts
them (SIGABRT, status 134) if they hang in a step. In both cases, all processes should be started
again, unless the dead one recorded that it failed (`cnnpool.runs.run_status`).
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import glob
import importlib.util
import os
import re
import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils
import numpy as np

from cnnpool.errors import EXIT_PREEMPTED, CnnpoolError, PreemptedError

HEARTBEAT_SECONDS = 10  # JAX's default is 100
SILENT_SECONDS = 3.0  # how long to wait for other processes before printing a message
_STEP = "SLURM_STEP_NUM_TASKS"
# What JAX reads in a Slurm step; an environment copied elsewhere has only some of these.
_STEP_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
_received: list[int] = []  # signals received that ask this process to stop
_LOST = re.compile("Gloo|NCCL|UNAVAILABLE|coordination service|heartbeat|Connection reset by peer")
_PERMANENT = re.compile(
    "RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED|NOT_FOUND|.*CUDA_ERROR", re.DOTALL
)


class OtherProcessError(CnnpoolError):
    """Another process of the job failed and recorded why."""


def join(
    *,
    coordinator: str | None = None,
    process_id: int | None = None,
    num_processes: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Joins the other processes of this job, if any. Call it before the first JAX computation.

    Args:
      coordinator: HOST:PORT on which process 0 listens; requires `process_id` and `num_processes`.
      process_id: this process's index, 0..num_processes-1.
      num_processes: number of processes in the job. 1 without the other two arguments: this
        process joins no other, even in a Slurm step or on a TPU pod.
      environment: environment variables, where Slurm describes the processes of a step.

    Returns:
      The number of processes; always 1 on a TPU, where it is unknown before JAX has found the
      devices.

    Raises:
      ValueError: if arguments are missing or out of range.
    """
    given = (coordinator, process_id, num_processes)
    if given == (None, None, 1):
        return 1
    if any(value is not None for value in given):
        return _join_by_arguments(*given)
    tasks = int(environment.get(_STEP, 1))
    if tasks > 1 and all(name in environment for name in _STEP_VARIABLES):
        who = f"process {environment['SLURM_PROCID']} of {tasks}"
        alone = f"give --num_processes=1, or unset {_STEP}"
        with _waiting_aloud(
            f"{who} is waiting for the others in a step of Slurm job "
            f"{environment['SLURM_JOB_ID']}. If nothing starts them, as in a shell inside the "
            f"step: {alone}"
        ):
            jax.distributed.initialize(
                num_processes=tasks,
                local_device_ids=_gpus_of_task(environment),
                cluster_detection_method="slurm",
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        _listen()
        return tasks
    if _on_tpu():
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
        _listen()
    return 1


def _join_by_arguments(
    coordinator: str | None, process_id: int | None, num_processes: int | None
) -> int:
    if coordinator is None or process_id is None or num_processes is None:
        raise ValueError(
            "expected --coordinator, --process_id and --num_processes together; got "
            f"{coordinator}, {process_id} and {num_processes}"
        )
    if not 0 <= process_id < num_processes:
        raise ValueError(
            f"--process_id must be in 0..{num_processes - 1} for --num_processes={num_processes}, "
            f"got {process_id}"
        )
    if not re.fullmatch(r".+:\d+", coordinator):
        raise ValueError(f"--coordinator must be HOST:PORT of process 0, got {coordinator!r}")
    if num_processes > 1:
        with _waiting_aloud(
            f"process {process_id} of {num_processes} is waiting for the others at {coordinator}: "
            "start each with its own --process_id"
        ):
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                cluster_detection_method="deactivate",
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
        _listen()
    return num_processes


@contextlib.contextmanager
def _waiting_aloud(message: str) -> Iterator[None]:
    """Prints a message if the block takes longer than `SILENT_SECONDS`."""

    def tell() -> None:
        print(message, file=sys.stderr, flush=True)

    timer = threading.Timer(SILENT_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _gpus_of_task(environment: Mapping[str, str]) -> list[int] | None:
    """All visible GPUs, if this task sees only one or is the only task on its node; else None.

    With None, JAX assigns one GPU to each task of the node, all of which see the same GPUs.
    """
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if not visible:
        return None
    count = len(visible.split(","))
    alone = re.fullmatch(r"1(\(x\d+\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return list(range(count)) if alone or count == 1 else None


def _on_tpu() -> bool:
    chips = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def is_joined() -> bool:
    """Whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def on_first(action: Callable[[], object]) -> None:
    """Runs `action` in the first process; the others continue when it is done.

    Raises:
      OtherProcessError: in the other processes, if `action` raised an exception in the first.
    """
    if not is_joined():
        action()
        return
    failed: Exception | None = None
    if is_first():
        try:
            action()
        except Exception as error:
            failed = error
    if agreed(failed is not None):
        raise failed or OtherProcessError("process 0 failed; its message says why")


def agreed(value: bool) -> bool:
    """The first process's `value`, broadcast to all processes."""
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(value))) if is_joined() else value


def preempted() -> bool:
    """Whether any process of the job has received SIGTERM or SIGUSR1; the same in all processes.

    A collective: all processes must call it at the same points of their work. Always False in a
    single process. JAX's own preemption sync point is not used, because on a busy machine it
    sometimes missed a signal, and because it does not handle SIGUSR1.
    """
    if not is_joined():
        return False
    return bool(multihost_utils.process_allgather(np.bool_(bool(_received))).any())


def end_if_asked(where: str) -> None:
    """Stops all processes of a job if one of them was asked to stop; see `preempted`.

    Args:
      where: where in the work it stops, for the message; for example "in epoch 3".

    Raises:
      PreemptedError: in all processes, if one received SIGTERM or SIGUSR1.
    """
    if preempted():
        raise PreemptedError(f"stopped {where}; run the same command again to continue")


def _listen() -> None:
    """Records signals. Call it after `jax.distributed.initialize`, whose handler it replaces."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, _frame: _received.append(received))


@contextlib.contextmanager
def ending_together(
    record: Callable[[BaseException], BaseException] | None = None,
) -> Iterator[None]:
    """On an error, exits this process without waiting for the others, which may be dead.

    A normal exit of a joined process waits until all processes exit. In a single process, errors
    propagate as usual.

    Args:
      record: called with the error before the exit; records it and returns the error that is the
        cause. With `record`, a preemption, which stops all processes, propagates as usual.
    """
    try:
        yield
    except BaseException as error:
        if not is_joined() or (record and isinstance(error, PreemptedError)):
            raise
        _end(record(error) if record else error)


def _end(error: BaseException) -> None:
    status = exit_status(error)
    who = f"process {jax.process_index()} of {jax.process_count()}"
    lost = lost_process(error)
    if isinstance(error, PreemptedError):
        message = f"{who}: {error}" if is_first() else ""
    elif lost is not None:
        message = (
            f"{who}: another process is gone ({_first_line(lost)}). Start all processes again to "
            "continue from the latest checkpoint"
        )
    elif isinstance(error, OtherProcessError):
        message = ""
    else:
        message = f"{who}: error: {error}"
    if message:
        print(message, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def exit_status(error: BaseException) -> int:
    """`EXIT_PREEMPTED` if the cause is a lost process or a preemption, else 1."""
    restart = isinstance(error, PreemptedError) or lost_process(error) is not None
    return EXIT_PREEMPTED if restart else 1


def lost_process(error: BaseException | None) -> BaseException | None:
    """The error in a chain of causes that shows that another process is gone, or None.

    Always None in a single process.
    """
    return _lost_in_chain(error) if is_joined() else None


def _lost_in_chain(error: BaseException | None) -> BaseException | None:
    if error is None:
        return None
    text = str(error)
    permanent = _PERMANENT.match(text)
    of_jax = isinstance(error, jax.errors.JaxRuntimeError)
    found = error if not permanent and (of_jax or _LOST.search(text)) else None
    return _lost_in_chain(error.__cause__ or error.__context__) or found


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]
