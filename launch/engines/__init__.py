"""Engines, which run the jobs of a sweep: on this machine, with Slurm, or through SkyPilot."""
