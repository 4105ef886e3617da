"""The parameters that a sweep varies, as coordinates of its result file.

`launch.collect` gives each network one scalar coordinate per parameter, such as `learning_rate`,
with an attribute `parameter` that names the config's field, `training.learning_rate`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

FIELD = "parameter"  # the attribute that marks such a coordinate


def with_parameters(
    dataset: xr.Dataset, place: Mapping[str, Any], fields: Mapping[str, str]
) -> xr.Dataset:
    """Adds a network's sweep parameters to its dataset as scalar coordinates.

    Args:
      dataset: the network's dataset.
      place: {name: value}; values that are neither numbers nor text are converted to text.
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
    """The names of the sweep parameters whose values differ between networks.

    Parameters are the coordinates that `launch.collect` marked, or if there are none, all scalar
    variables that every network has.
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
    """The value of a network's parameter; None if it has no parameter of that name."""
    return dataset[name].values.item() if name in dataset.variables else None
