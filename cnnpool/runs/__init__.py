"""A working directory and the process that uses it: config, lease, status, signals, provenance."""
