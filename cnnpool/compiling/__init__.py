"""Programs of a run compiled for other devices than this machine's: memory, work, traffic."""
