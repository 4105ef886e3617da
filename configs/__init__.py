"""Configs, one per data set; the package `cnnpool.configs`. See CONTRIBUTING.md."""

from cnnpool import extras

with extras.needed("train"):
    import ml_collections  # noqa: F401 - all of them need it
