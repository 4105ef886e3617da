"""What runs the jobs of a sweep: this machine, Slurm, or a cloud through SkyPilot."""
