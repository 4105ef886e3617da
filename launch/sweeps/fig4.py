r"""Figure 4 and Table 1: simple CNNs on 1-D scale detection, four initializations.

    python -m launch.sweep --sweep=launch/sweeps/fig4.py --preset=cpu --seeds_per_job=1
    python -m launch.collect --sweep=launch/sweeps/fig4.py --preset=cpu --seeds_per_job=1 \
        --out=fig4.nc
    python -m cnnpool.figures fig4 --results fig4.nc --out fig4.png

Presets: those of configs/scale1d.py: quick, cpu, paper.
"""

from cnnpool.measuring.transforms import TRANSFORMS
from configs import scale1d
from launch.jobs import Job
from launch.measurement import Measurement


def jobs(preset: str) -> list[Job]:
    """One job of all initializations."""
    return [Job(scale1d.get_config(preset), (Measurement(transforms=tuple(TRANSFORMS)),))]
