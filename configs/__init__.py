"""Configs, one a paper item; see CONTRIBUTING.md."""
