"""Launching: whole paper items and sweeps, on top of cnnpool; the package `cnnpool.launch`.

In a checkout `python -m launch.sweep` and `from launch.jobs import Job` in a sweep work as well.
"""

import sys

if __name__ == "launch":  # what sweeps import is here under both names, so that no class is twice
    from cnnpool.launch import jobs, measurement

    sys.modules |= {"launch.jobs": jobs, "launch.measurement": measurement}
