"""Launching: whole paper items, and later sweeps, on top of cnnpool."""
