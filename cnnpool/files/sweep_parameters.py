"""The parameters that a sweep varies, as coordinates of its result file.

`launch.collect` gives each network of its file one scalar coordinate per parameter, whose attribute
`parameter` is the config's field: `learning_rate` of `training.learning_rate`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

FIELD = "parameter"  # the attribute by which such a coordinate is known


def with_parameters(
    dataset: xr.Dataset, place: Mapping[str, Any], fields: Mapping[str, str]
) -> xr.Dataset:
    """A network with its parameters as scalar coordinates.

    Args:
      dataset: the network's dataset.
      place: {name: value}; a value that is neither a number nor text becomes text.
      fields: {name: field of the config}.
    """
    coordinates = {}
    for name, value in place.items():
        plain = value if isinstance(value, bool | int | float | str) else str(value)
        plain = int(plain) if isinstance(plain, bool) else plain
        about = {FIELD: fields[name], "long_name": name.replace("_", " "), "units": ""}
        coordinates[name] = xr.DataArray(plain, attrs=about)
    return dataset.assign_coords(coordinates)


def of_datasets(datasets: Sequence[xr.Dataset]) -> list[str]:
    """Names of the scalar coordinates that differ between networks.

    Those that `launch.collect` made, or where there are none, any that all networks have.
    """
    scalars = [
        {str(name): one for name, one in data.variables.items() if one.ndim == 0}
        for data in datasets
    ]
    names = dict.fromkeys(name for found in scalars for name in found)
    marked = [n for n in names if any(FIELD in found[n].attrs for found in scalars if n in found)]
    chosen = marked or [n for n in names if all(n in found for found in scalars)]
    return [name for name in chosen if len({str(value(data, name)) for data in datasets}) > 1]


def value(dataset: xr.Dataset, name: str) -> Any:
    """A parameter of a network; None where it has none of that name."""
    return dataset[name].values.item() if name in dataset.variables else None
