"""A working directory and the process in it: config, lease, status, signals, provenance."""
