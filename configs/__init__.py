"""Configs, one a paper item; see CONTRIBUTING.md. The package `cnnpool.configs`."""

from cnnpool import extras

with extras.needed("train"):
    import ml_collections  # noqa: F401 - all of them need it
