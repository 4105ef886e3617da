"""Figures and tables, one a file: they read results and draw, and train nothing."""
