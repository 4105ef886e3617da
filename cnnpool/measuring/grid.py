"""Arrays of single networks under one perturbation, put together by their coordinates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.units import Depths

_ORDER = ("seed", "stage", "transform", "shuffle", "layer", "delta", "cutoff", "noise")


def at(cell: xr.Dataset, network: NetworkAtStage, coordinates: Mapping[str, Any]) -> xr.Dataset:
    """A network's arrays with its coordinates along seed, stage and the perturbation axes."""
    return cell.assign_coords({"seed": network.seed, "stage": network.stage, **coordinates})


def with_depths(whole: xr.Dataset, depths: Depths) -> xr.Dataset:
    """The same with `depth` along its layers, NaN where a unit is not plotted.

    Args:
      whole: a dataset with the dimension layer.
      depths: k of each unit; None for units that are not plotted.
    """
    found = [depth or np.nan for depth in depths(list(whole["layer"].values))]
    return whole.assign_coords(depth=("layer", np.array(found, np.float64)))


def combined(cells: Sequence[xr.Dataset]) -> xr.Dataset:
    """Combines datasets from `at`, which fill a grid, into one."""
    axes = [name for name in _ORDER if name in cells[0].coords and not cells[0][name].dims]
    return _along(axes, cells).transpose(*_ORDER, ..., missing_dims="ignore")


def _along(axes: Sequence[str], cells: Sequence[xr.Dataset]) -> xr.Dataset:
    if not axes:
        (only,) = cells
        return only
    axis, *others = axes
    groups: dict[Any, list[xr.Dataset]] = {}
    for cell in cells:
        groups.setdefault(cell[axis].item(), []).append(cell)
    return xr.concat([_along(others, group) for group in groups.values()], axis, join="exact")
