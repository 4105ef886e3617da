"""Slow, plain numpy oracles, written from the paper and the protocol alone."""
