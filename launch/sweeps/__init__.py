"""Examples of sweeps; copy `grid` to write your own."""
