"""Figure 7: LeNet and AlexNet on CIFAR-10, channels shuffled or not.

    python -m launch.sweep --sweep=launch/sweeps/fig7.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig7.py --preset=cpu --out=fig7.nc
    python -m cnnpool.figures fig7 --results fig7.nc --out fig7.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig7", preset)
