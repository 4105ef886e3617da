"""How convolutions are computed on a CPU."""
