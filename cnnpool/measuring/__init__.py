"""Measuring: from checkpoints to labelled arrays."""
