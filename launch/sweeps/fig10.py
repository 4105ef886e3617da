"""Figure 10: filter spectra of AlexNet on both data sets.

    python -m launch.sweep --sweep=launch/sweeps/fig10.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig10.py --preset=cpu --out=fig10.nc
    python -m cnnpool.figures fig10 --results fig10.nc --out fig10.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig10", preset)
