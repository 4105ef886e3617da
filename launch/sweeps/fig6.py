"""Figure 6: D, G, R against depth on 2-D scale detection.

    python -m launch.sweep --sweep=launch/sweeps/fig6.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig6.py --preset=cpu --out=fig6.nc
    python -m cnnpool.figures fig6 --results fig6.nc --out fig6.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig6", preset)
