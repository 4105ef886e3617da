"""Fast convolutions and matrix products on CPUs."""
