"""Figure 8: mean frequency of filters against depth, both data sets.

    python -m launch.sweep --sweep=launch/sweeps/fig8.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig8.py --preset=cpu --out=fig8.nc
    python -m cnnpool.figures fig8 --results fig8.nc --out fig8.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig8", preset)
