"""Which layers of a network a figure shows: k = 1..K, one per convolution or linear layer."""

import numpy as np
import xarray as xr

from cnnpool.files import schema
from cnnpool.shapes import Float

OUTPUT = "output"
_SHARES_OF_DEPTH = (0.25, 0.5, 0.75)


def with_depth(dataset: xr.Dataset) -> xr.Dataset:
    """The units that figures plot, in forward order."""
    return dataset.isel(layer=np.flatnonzero(dataset["depth"].notnull()))


def output(dataset: xr.Dataset) -> xr.Dataset:
    """The last layer, k = K."""
    return dataset.isel(layer=int(np.nanargmax(dataset["depth"].values)))


def relative_depth(dataset: xr.Dataset) -> Float[np.ndarray, " units"]:
    """k/K of every unit; a unit between two depths belongs to the next one: conv03 to pool03."""
    depth = schema.layer_depth(dataset["depth"].values)
    return depth / depth.max()


def some(dataset: xr.Dataset) -> dict[str, xr.Dataset]:
    """{title: layer}: the layers nearest to 1/4, 1/2 and 3/4 of the depth, and the output.

    A shallow network has fewer.
    """
    layers = with_depth(dataset)
    depth = layers["depth"].values
    share = depth / depth.max()
    chosen = {depth.argmax(): OUTPUT}
    for wanted in _SHARES_OF_DEPTH:
        place = np.abs(share - wanted).argmin()
        title = min(_SHARES_OF_DEPTH, key=lambda one: abs(one - share[place]))
        chosen.setdefault(place, f"$k/K$ ≈ {title:g}")
    return {title: layers.isel(layer=int(place)) for place, title in sorted(chosen.items())}
