"""The names and units of all variables and coordinates of a result file.

`labelled` writes them into the attributes `long_name` and `units`, which xarray uses as axis
labels, and adds `layer_depth`, a depth for every unit.
"""

import numpy as np
import xarray as xr

from cnnpool.shapes import Float

NUMBER, NAME = "1", ""  # units of dimensionless numbers, and of variables that are not numbers
_PIXELS, _SECONDS = "pixels", "s"
LAYER_DEPTH = "layer_depth"
_QUANTITIES = {
    "D": "sensitivity to diffeomorphisms D",
    "G": "sensitivity to noise G",
    "R": "relative sensitivity R = D / G",
}
_ERRORS = {
    name: words
    for quantity in _QUANTITIES
    for name, words in {
        f"{quantity}_se": f"standard error of {quantity} over images",
        f"{quantity}_shuffle_sd": f"standard deviation of {quantity} over random shuffles",
    }.items()
}
LABELS: dict[str, tuple[str, str]] = {
    **{name: (words, NUMBER) for name, words in (_QUANTITIES | _ERRORS).items()},
    # coordinates
    "seed": ("seed of the network", NUMBER),
    "stage": ("stage of training", NAME),
    "transform": ("transform of the network", NAME),
    "shuffle": ("number of the random shuffle", NUMBER),
    "layer": ("layer", NAME),
    "depth": ("depth k, of the last unit of every layer", NUMBER),
    LAYER_DEPTH: ("depth k of a unit's layer", NUMBER),
    "delta": ("nominal displacement", _PIXELS),
    "cutoff": ("cut-off of diffeomorphisms c", NUMBER),
    "noise": ("kind of noise", NAME),
    "frequency": ("number of the frequency l", NUMBER),
    "tap": ("tap of the filter", NUMBER),
    # of networks and their training
    "test_error": ("test error", NUMBER),
    "test_loss": ("test loss", NUMBER),
    "epoch": ("epochs of training", "epochs"),
    "best_epoch": ("epoch of the smallest test error", "epochs"),
    "dead_epoch": ("epoch since which the network is dead", "epochs"),
    "interpolation_epoch": ("epoch of interpolation", "epochs"),
    "stopped_epoch": ("epoch at which training stopped", "epochs"),
    "training_seconds": ("time of training", _SECONDS),
    # of natural images
    "natural": ("whether the diffeomorphisms are natural", NAME),
    "spatial_share": ("spatial share of the fall of R", NUMBER),
    "spatial_share_se": ("standard error of the spatial share", NUMBER),
    "layer_spatial_share": ("spatial share of a layer's fall of R", NUMBER),
    "layer_spatial_share_se": ("standard error of a layer's spatial share", NUMBER),
    # of filters
    "eigenvalue": ("eigenvalue of the grid's Laplacian", NUMBER),
    "gamma": ("mean squared projection of filters gamma", NUMBER),
    "gamma_se": ("standard error of gamma over filters", NUMBER),
    "gamma_random": ("gamma of random filters", NUMBER),
    "filter_frequency": ("mean frequency of filters", NUMBER),
    "filter_frequency_se": ("standard error of the mean frequency", NUMBER),
    # of simple CNNs on a ring
    "A": ("size of the pooled region A", _PIXELS),
    "mean_filter": ("mean filter over channels", NUMBER),
    "A_theory": ("receptive field A", _PIXELS),
    "D_theory": ("D of constant filters", NUMBER),
    "G_theory": ("G of constant filters", NUMBER),
}


def labelled(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset with the names and units of `LABELS`, and with `layer_depth` if it has `depth`.

    Existing attributes are kept, and variables that are not in the table are unchanged.
    """
    named = dataset.copy()
    if "depth" in named.variables and "layer" in named.dims:
        named = named.assign_coords({LAYER_DEPTH: ("layer", layer_depth(named["depth"].values))})
    for name, variable in named.variables.items():
        if name in LABELS:
            long_name, units = LABELS[str(name)]
            variable.attrs.setdefault("long_name", long_name)
            variable.attrs.setdefault("units", units)
    return named


def layer_depth(depth: np.ndarray) -> Float[np.ndarray, " units"]:
    """The depth k of every unit's layer.

    A unit without a depth of its own belongs to the layer of the next unit that has one: conv03 to
    pool03. Units after the last one with a depth belong to its layer. If no unit has a depth, each
    unit is a layer.

    Args:
      depth: (units,), k of the last unit of every layer, NaN for other units, in forward order.
    """
    found = np.array(depth, float)
    if np.isnan(found).all():
        return np.arange(1.0, len(found) + 1)
    for unit in range(len(found) - 2, -1, -1):
        if np.isnan(found[unit]):
            found[unit] = found[unit + 1]
    return np.where(np.isnan(found), np.nanmax(found), found)
