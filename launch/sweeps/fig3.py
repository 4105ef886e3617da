"""Figure 3: filter spectra of VGG11, with and without batch normalization, on both data sets.

    python -m launch.sweep --sweep=launch/sweeps/fig3.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/fig3.py --preset=cpu --out=fig3.nc
    python -m cnnpool.figures fig3 --results fig3.nc --out fig3.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("fig3", preset)
