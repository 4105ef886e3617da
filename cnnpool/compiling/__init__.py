"""Compiles the programs of a run for other devices than this machine's, and analyzes their cost."""
