"""Runs one job of a sweep: trains its networks, then measures them."""

from pathlib import Path

from cnnpool.devices import distributed, runtime
from cnnpool.launch.jobs import read_spec
from cnnpool.measuring.evaluation import evaluate
from cnnpool.measuring.while_training import train
from cnnpool.runs import run_config
from cnnpool.runs.running import running


def run(spec: Path, *, accelerator: bool = False) -> None:
    """Trains and measures the networks of a job; continues where it was stopped.

    Args:
      spec: the spec file of the job, in the job's folder.
      accelerator: whether the job must run on an accelerator.

    Raises:
      DeviceError: if `accelerator` is True and there is none.
      SweepError: if the spec is damaged.
      WorkdirBusyError: if another process is running this job.
      PreemptedError: if a signal asked to stop; what was computed is saved.
      CnnpoolError, ValueError, OSError: if training or measurement fails.
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
