"""D, G, R during training, both data sets.

    python -m launch.sweep --sweep=launch/sweeps/dynamics.py --preset=cpu
    python -m launch.collect --sweep=launch/sweeps/dynamics.py --preset=cpu --out=dynamics.nc
    python -m cnnpool.figures dynamics --results dynamics.nc --out dynamics.png

Presets: cpu (shortened training, few initializations), paper (the whole protocol).
"""

from launch.jobs import Job
from launch.paper_jobs import jobs_of


def jobs(preset: str) -> list[Job]:
    """A job a network."""
    return jobs_of("dynamics", preset)
