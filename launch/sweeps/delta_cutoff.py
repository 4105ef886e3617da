r"""R against displacement and cut-off, CIFAR-10.

    python -m launch.sweep --sweep=launch/sweeps/delta_cutoff.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/delta_cutoff.py --preset=cpu \
        --out=delta_cutoff.nc
    python -m cnnpool.figures delta_cutoff --results delta_cutoff.nc --out delta_cutoff.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("delta_cutoff", preset)
