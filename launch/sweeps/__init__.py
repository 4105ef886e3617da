"""Sweeps, one a figure of the paper, and `grid`, an example to copy."""
