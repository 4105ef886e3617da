"""Sweeps of your own: `grid` is an example to copy."""
