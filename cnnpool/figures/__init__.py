"""Figures and tables, one per file: they read results and plot them, and train nothing."""
