"""Data sets, one a file; `build` picks one by the name in a config."""

from ml_collections import ConfigDict

from cnnpool.data import scale1d

_BUILDERS = {"scale1d": scale1d.build}


def build(config: ConfigDict) -> scale1d.Scale1D:
    """The data set that `config.name` asks for.

    Args:
      config: the `data` section of a config.

    Raises:
      ValueError: if no data set has that name, or its parameters are impossible.
    """
    if config.name not in _BUILDERS:
        raise ValueError(
            f"config.data.name is {config.name!r}; expected one of {sorted(_BUILDERS)}"
        )
    return _BUILDERS[config.name](config)
