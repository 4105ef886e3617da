"""Figure 2: VGG11 with and without batch normalization on CIFAR-10.

    python -m launch.sweep --sweep=launch/sweeps/fig2.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig2.py --preset=cpu --out=fig2.nc
    python -m cnnpool.figures fig2 --results fig2.nc --out fig2.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig2", preset)
