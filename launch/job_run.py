"""One job of a sweep: trains its networks, then measures them."""

from pathlib import Path

from cnnpool.devices import distributed, runtime
from cnnpool.launch.jobs import read_spec
from cnnpool.measuring.evaluation import evaluate
from cnnpool.measuring.while_training import train
from cnnpool.runs import run_config
from cnnpool.runs.running import running


def run(spec: Path, *, accelerator: bool = False) -> None:
    """Trains and measures what a spec asks for and is not there yet.

    Args:
      spec: of the job.
      accelerator: whether it was given to run on one.

    Raises:
      DeviceError: if there is no accelerator, and it was.
      SweepError: if the spec is damaged.
      WorkdirBusyError: if another process works on this job.
      PreemptedError: if a signal asked to stop; what was computed is saved.
      CnnpoolError, ValueError, OSError: if training or measurement fail.
    """
    job, folder = read_spec(spec), spec.parent
    processes = distributed.join()
    runtime.use_compilation_cache()
    devices = run_config.devices_per_network(job.config)
    runtime.one_cpu_device_per_core(
        len(job.config.seeds), devices_per_network=devices, processes=processes
    )
    with running(folder) as process, distributed.ending_together(process.record):
        if accelerator:
            runtime.check_accelerator()
        train(job.config, folder, process=process)
        for one in job.measurements:
            process.report("measuring")
            process.call(
                lambda one=one: evaluate(
                    folder,
                    folder / one.file,
                    stages=one.stages,
                    transforms=one.transforms,
                    settings=dict(one.settings),
                )
            )
