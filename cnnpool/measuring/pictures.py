"""What is known of networks on pictures besides D, G and R: their pooling budget."""

from collections.abc import Mapping
import itertools

import numpy as np
import xarray as xr

from cnnpool.files import results
from cnnpool.instruments.diffeomorphisms import natural_flags
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.pooling_budget import Share, spatial_share
from cnnpool.measuring import transforms, units
from cnnpool.measuring.settings import Settings

_UNDEFINED = Share(float("nan"), float("nan"))


def pooling_budget(
    found: Mapping[str, list[Moments]], depths: units.Depths = units.depths
) -> xr.Dataset:
    """Spatial shares of the fall of R, over transform, and over transform and layer.

    `spatial_share` is from the first layer to the last, `layer_spatial_share` from the preceding
    layer; NaN for transforms that are not a shuffle of all layers. Empty without such a shuffle, or
    without the network as it is.

    Args:
      found: the moments of a network under every transform, a list over shuffles.
      depths: k of each of its units.
    """
    shuffles = [name for name in transforms.SHUFFLES if name in found]
    if transforms.NONE not in found or not shuffles:
        return xr.Dataset()
    (original,) = found[transforms.NONE]
    layers = [unit for unit, depth in zip(original, depths(list(original)), strict=True) if depth]

    def share(name: str, first: str, last: str, *, least_decades: float = 0.0) -> Share:
        if name not in shuffles:
            return _UNDEFINED
        pairs = [(moments[first], moments[last]) for moments in found[name]]
        both = original[first], original[last]
        return spatial_share(both, pairs, least_decades=least_decades)

    in_front = {last: first for first, last in itertools.pairwise(layers)}
    ends = [share(t, layers[0], layers[-1], least_decades=results.LEAST_FALL) for t in found]
    steps = [
        [share(t, in_front[u], u) if u in in_front else _UNDEFINED for u in original] for t in found
    ]
    whole, by_layer = np.array(ends, np.float64), np.array(steps, np.float64)
    return xr.Dataset(
        {
            "spatial_share": ("transform", whole[..., 0]),
            "layer_spatial_share": (("transform", "layer"), by_layer[..., 0]),
            "spatial_share_se": ("transform", whole[..., 1]),
            "layer_spatial_share_se": (("transform", "layer"), by_layer[..., 1]),
        },
        {"transform": list(found), "layer": list(original)},
    )


def natural(size: int, settings: Settings) -> xr.DataArray:
    """Whether the diffeomorphisms of every delta and cut-off are natural, with a warning if not.

    Args:
      size: side of the images, in pixels.
      settings: settings with the deltas and cut-offs.
    """
    flags = natural_flags(settings.fields, size=size)
    by_field = dict(zip(settings.fields, flags, strict=True))
    rows = [[by_field[delta, cutoff] for cutoff in settings.cutoffs] for delta in settings.deltas]
    coordinates = {"delta": list(settings.deltas), "cutoff": list(settings.cutoffs)}
    return xr.DataArray(rows, coordinates, coordinates)
