"""Figure 5: test error against D, G, R of all networks on 2-D scale detection.

    python -m launch.sweep --sweep=launch/sweeps/fig5.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig5.py --preset=cpu --out=fig5.nc
    python -m cnnpool.figures fig5 --results fig5.nc --out fig5.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig5", preset)
