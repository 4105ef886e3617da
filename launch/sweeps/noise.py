"""Noise in the training set of CIFAR-10: test error against D, G, R.

    python -m launch.sweep --sweep=launch/sweeps/noise.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/noise.py --preset=cpu --out=noise.nc
    python -m cnnpool.figures noise --results noise.nc --out noise.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("noise", preset)
