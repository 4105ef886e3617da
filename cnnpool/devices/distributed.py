"""One job in several processes: how they find one another, who writes, and how they end.

Processes are found by explicit arguments, in a job step of Slurm (`srun -n K`) or on a TPU pod; an
ordinary process is alone, and nothing here does anything. Only the first process writes files and
prints. When a process dies, the others notice by a failed collective at once, or by its missing
heartbeat within `HEARTBEAT_SECONDS`; they exit with `EXIT_PREEMPTED`, or are aborted by JAX
(SIGABRT, status 134) where they hang in a step. Either way all are to be started again, unless the
one that is gone left word that it failed (`cnnpool.runs.run_status`).
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

HEARTBEAT_SECONDS = 10  # JAX's own are 100
SILENT_SECONDS = 3.0  # of waiting for other processes, before it is said
_STEP = "SLURM_STEP_NUM_TASKS"
# What JAX reads in a step of Slurm; an environment that was copied elsewhere has some of them.
_STEP_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_LOCALID",
)
_received: list[int] = []  # signals that ask this process to end
_LOST = re.compile("Gloo|NCCL|UNAVAILABLE|coordination service|heartbeat|Connection reset by peer")
_PERMANENT = re.compile(
    "RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED|NOT_FOUND|.*CUDA_ERROR", re.DOTALL
)


class OtherProcessError(CnnpoolError):
    """Another process of the job has failed, and said why."""


def join(
    *,
    coordinator: str | None = None,
    process_id: int | None = None,
    num_processes: int | None = None,
    environment: Mapping[str, str] = os.environ,
) -> int:
    """Joins the other processes of this job, if there are any; before the first JAX computation.

    Args:
      coordinator: HOST:PORT on which process 0 listens; the next two are given with it.
      process_id: 0..num_processes-1.
      num_processes: of the job; 1 alone is a process that joins nobody, wherever it runs.
      environment: variables, in which Slurm names the processes of a step.

    Returns:
      The number of processes; 1 also on a TPU, where it is not known before the devices are.

    Raises:
      ValueError: if arguments are missing or impossible.
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
            f"{who} waits for the others of a step of Slurm's job {environment['SLURM_JOB_ID']}. "
            f"Where nobody starts them, as in a shell inside the step: {alone}"
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
            "--coordinator, --process_id and --num_processes go together; got "
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
            f"process {process_id} of {num_processes} waits for the others, which meet at "
            f"{coordinator}: start each with its own --process_id"
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
    """Prints a message where what happens inside takes longer than some seconds."""

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
    """All GPUs that Slurm shows this task, if it sees one or is alone on its node.

    None leaves it to JAX, which gives each of a node's tasks one of the GPUs that all of them see.
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
    """Runs `action` in the first process; the others go on when it is done.

    Raises:
      OtherProcessError: in the others, if it raised an exception in the first.
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
    """What the first process says, in all processes."""
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(value))) if is_joined() else value


def preempted() -> bool:
    """Whether a process of the job was asked to end, by SIGTERM or SIGUSR1; the same in all.

    To be called by all of them at the same points of their work: it is there that they agree.
    Always False in a process that is alone. JAX's own preemption sync point was tried: on a busy
    machine it sometimes missed a signal, and it knows no SIGUSR1.
    """
    if not is_joined():
        return False
    return bool(multihost_utils.process_allgather(np.bool_(bool(_received))).any())


def end_if_asked(where: str) -> None:
    """Ends all of several joined processes where `preempted` says so.

    Args:
      where: the work was stopped, "in epoch 3".

    Raises:
      PreemptedError: in all of them.
    """
    if preempted():
        raise PreemptedError(f"stopped {where}; give the same command again and it goes on")


def _listen() -> None:
    """Notes signals; after `jax.distributed.initialize`, whose own handler this replaces."""
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda received, _frame: _received.append(received))


@contextlib.contextmanager
def ending_together(
    record: Callable[[BaseException], BaseException] | None = None,
) -> Iterator[None]:
    """Ends this process at an error without waiting for the others, which may be gone.

    An ordinary exit of a joined process waits for all to exit. A process that is alone passes
    errors on.

    Args:
      record: is told of the error before, and says which one is the cause; a preemption, at which
        all end, is passed on instead.
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
            f"{who}: another process is gone ({_first_line(lost)}). Start all of them again: they "
            "go on from the latest checkpoint"
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
    """`EXIT_PREEMPTED` where the cause is a lost process or a preemption, else 1."""
    restart = isinstance(error, PreemptedError) or lost_process(error) is not None
    return EXIT_PREEMPTED if restart else 1


def lost_process(error: BaseException | None) -> BaseException | None:
    """What in the chain of an error's causes says that another process is gone, or None.

    None also in a process that is alone, whatever its error says.
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
