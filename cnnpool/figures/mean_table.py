"""D, G and R of every layer as a table, averaged over the networks that are not dead."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from cnnpool.figures import seed_average
from cnnpool.files import results

QUANTITIES = ("D", "G", "R")


def table(dataset: xr.Dataset, *, all_units: bool = False) -> pd.DataFrame:
    """Means over networks with their standard errors, see `seed_average`.

    Args:
      dataset: in the schema of result files.
      all_units: all units, not only the last one of every layer.

    Returns:
      Columns D, D_se, G, G_se, R, R_se, `depth` where the dataset has it, and `networks`: "4", or
      "2 of 4" where the layer is dead in the others, "0 of 4" where it is dead in all, so that the
      numbers are NaN. The index is stage, transform and whatever else was measured, `layer` last.
    """
    shown = results.over_shuffles(dataset)
    shown = shown if "seed" in shown.dims else shown.expand_dims("seed")
    if not all_units and "depth" in shown.variables and shown["depth"].notnull().any():
        shown = shown.isel(layer=np.flatnonzero(shown["depth"].notnull()))
    dims = [dim for dim in shown["R"].dims if dim != "seed"]
    columns: dict[str, xr.DataArray] = {}
    counts = None
    for name in QUANTITIES:
        average = seed_average.over_seeds(shown, name)
        coordinates = {dim: shown[dim] for dim in dims}
        columns[name] = xr.DataArray(average.mean, coordinates, dims)
        columns[f"{name}_se"] = xr.DataArray(average.se, coordinates, dims)
        counts = average.seeds if counts is None else np.minimum(counts, average.seeds)
    there = shown.sizes["seed"]
    said = np.vectorize(lambda alive: str(there) if alive == there else f"{alive} of {there}")
    columns["networks"] = xr.DataArray(said(counts).astype(object), coordinates, dims)
    order = [*(dim for dim in dims if dim != "layer"), "layer"]
    frame = xr.Dataset(columns).transpose(*order).to_dataframe(dim_order=order)
    if "depth" in shown.variables:
        depth = dict(zip(shown["layer"].values, shown["depth"].values, strict=True))
        frame.insert(0, "depth", [depth[layer] for layer in frame.index.get_level_values("layer")])
    return frame


def of_networks(networks: Mapping[str, xr.Dataset], *, all_units: bool = False) -> pd.DataFrame:
    """`table` for all networks of a file, with the index as columns; `network` is the group."""
    frames = []
    for group, dataset in networks.items():
        frame = table(dataset, all_units=all_units).reset_index()
        frames.append(frame if group == "/" else frame.assign(network=group))
    return pd.concat(frames, ignore_index=True)
