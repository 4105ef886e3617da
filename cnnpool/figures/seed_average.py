"""The mean over the networks of a run, and its standard error."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr


class Average(NamedTuple):
    """A mean over seeds.

    Attributes:
      mean: over the networks where the quantity is finite; NaN where there is none.
      se: its standard error.
      seeds: how many networks that are.
    """

    mean: np.ndarray
    se: np.ndarray
    seeds: np.ndarray


def where_finite(cell: xr.Dataset, names: Sequence[str]) -> xr.Dataset:
    """The seeds in which all of some variables are finite everywhere; there may be none.

    Averages of these variables are then over the same networks, and can be plotted against each
    other.

    Args:
      cell: a dataset at one stage and transform.
      names: of variables over seed and other dimensions.
    """
    kept = np.ones(cell.sizes["seed"], bool)
    for name in names:
        values = cell[name].transpose("seed", ...).values
        kept &= np.isfinite(values).reshape(len(kept), -1).all(1)
    return cell.isel(seed=np.flatnonzero(kept))


def over_seeds(cell: xr.Dataset, name: str) -> Average:
    """Averages a variable over seeds.

    The error is s / sqrt(n) over n >= 2 networks, and the one over images (`NAME_se`, where the
    dataset has it) for one network. Where `NAME_shuffle_sd` is there, the spread over random
    shuffles is added in quadrature: sqrt(se^2 + mean(sd^2) / n), as if every network had been
    shuffled once. Values that are not finite (layers of dead networks) are left out.

    Args:
      cell: a dataset at one stage and transform.
      name: a variable over seed and other dimensions.

    Returns:
      Arrays over the other dimensions, in the variable's order.
    """
    values = cell[name].transpose("seed", ...)
    found = np.isfinite(values.values)
    seeds = found.sum(0)
    numbers = np.where(found, values.values, 0.0)
    mean = np.where(seeds > 0, numbers.sum(0) / np.maximum(seeds, 1), np.nan)
    squares = np.where(found, (numbers - np.where(seeds > 0, mean, 0.0)) ** 2, 0.0).sum(0)
    between = squares / np.maximum(seeds * (seeds - 1), 1)
    images = _mean_square(cell, f"{name}_se", values.dims, found)
    variance = np.where(seeds > 1, between, images)
    shuffles = _mean_square(cell, f"{name}_shuffle_sd", values.dims, found)
    variance = variance + np.nan_to_num(shuffles) / np.maximum(seeds, 1)
    return Average(mean, np.sqrt(variance), seeds)


def _mean_square(cell: xr.Dataset, name: str, dims: tuple, used: np.ndarray) -> np.ndarray:
    """Mean over the used networks of a variable's square; NaN where it is not known."""
    if name not in cell:
        return np.full(used.shape[1:], np.nan)
    squares = cell[name].transpose(*dims).values ** 2
    known = used & np.isfinite(squares)
    count = known.sum(0)
    total = np.where(known, squares, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
