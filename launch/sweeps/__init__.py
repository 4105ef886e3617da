"""Sweeps of one's own: `grid`, an example to copy."""
