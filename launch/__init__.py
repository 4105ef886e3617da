"""Launches sweeps and whole items of the paper; the package `cnnpool.launch`.

In a checkout, `python -m launch.sweep`, and `from launch.jobs import Job` in a sweep, also work.
"""

import sys

if __name__ == "launch":  # both names must refer to the same modules, so that classes are unique
    from cnnpool.launch import jobs, measurement

    sys.modules |= {"launch.jobs": jobs, "launch.measurement": measurement}
