"""What one network's numbers say, layer by layer: what pools, what is dead, and any warnings.

Read from D, G and R at one stage, displacement and cut-off:

- a layer pools where it lowers R: log10 R_{k-1} - log10 R_k, in decades, is its fall;
- the part of the fall that remains when channels are shuffled is spatial, the rest is channel
  pooling (the pooling budget, `cnnpool.instruments.pooling_budget`);
- a layer is dead in a network where its activations are the same for all images: D, G, R are NaN;
- R alone is NaN where the noise changes nothing: G is 0.
"""

from collections.abc import Sequence
import json
from typing import NamedTuple

import numpy as np
import xarray as xr

from cnnpool.figures import layers, seed_average
from cnnpool.figures.networks import MeasuredNetwork

FEW_IMAGES = 100  # below which the factor P / (P - 1) of D and G is over a hundredth
LEAST_FALL = 0.05  # decades, below which a layer is said not to pool
_SHARES = (0.35, 0.65)  # of a fall, between which it is both
SHUFFLE = "channel_shuffle"


class Layer(NamedTuple):
    """One layer.

    Attributes:
      name: the name of its last unit.
      depth: k.
      values: {D, G, R: (mean, standard error)}.
      alive: networks in which R is a number.
      dead: networks in which D is not a number, either.
      fall: decades by which R falls from the layer before; NaN for the first one.
      spatial: the part of the fall that is left under shuffled channels, decades; NaN where no
        shuffle was measured.
      spread: standard error of `fall`.
    """

    name: str
    depth: float
    values: dict[str, tuple[float, float]]
    alive: int
    dead: int
    fall: float
    spread: float
    spatial: float

    @property
    def verdict(self) -> str:
        """What it does, in words."""
        if not self.alive:
            return "dead" if np.isnan(self.values["D"][0]) else "R undefined"
        if np.isnan(self.fall):
            return "first layer" if self.depth == 1 else "unknown"
        if self.fall < -max(LEAST_FALL, 2 * self.spread):
            return "raises R"
        if self.fall < max(LEAST_FALL, 2 * self.spread):
            return "no change"
        if np.isnan(self.spatial):
            return "pools"
        share = self.spatial / self.fall
        if share > _SHARES[1]:
            return "spatial pooling"
        return "channel pooling" if share < _SHARES[0] else "spatial and channel pooling"


def of_layers(cell: xr.Dataset, shuffled: xr.Dataset | None) -> list[Layer]:
    """The layers of one network at one stage.

    Args:
      cell: the untransformed network's dataset over `seed` and `layer`.
      shuffled: the same with shuffled channels, where that was measured.
    """
    shown = _with_depth(cell)
    averages = {name: seed_average.over_seeds(shown, name) for name in "DGR"}
    falls, spreads = _falls(shown)
    spatial = np.full(len(falls), np.nan)
    if shuffled is not None:
        spatial, _ = _falls(_with_depth(shuffled))
    return [
        Layer(
            str(name),
            float(depth),
            {q: (float(one.mean[k]), float(one.se[k])) for q, one in averages.items()},
            int(averages["R"].seeds[k]),
            shown.sizes["seed"] - int(averages["D"].seeds[k]),
            falls[k],
            spreads[k],
            spatial[k],
        )
        for k, (name, depth) in enumerate(
            zip(shown["layer"].values, shown["depth"].values, strict=True)
        )
    ]


def _with_depth(cell: xr.Dataset) -> xr.Dataset:
    if "depth" not in cell.variables or cell["depth"].isnull().all():
        return cell.assign_coords(depth=("layer", np.arange(1.0, cell.sizes["layer"] + 1)))
    return layers.with_depth(cell)


def _falls(shown: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Decades by which R falls from layer to layer, mean over networks, and its standard error.

    For a single network, the errors of both layers over images are added as if independent.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(shown["R"].transpose("seed", "layer").values)
        relative = (shown["R_se"] / shown["R"]).transpose("seed", "layer").values / np.log(10)
    steps = logs[:, :-1] - logs[:, 1:]
    errors = np.hypot(relative[:, :-1], relative[:, 1:])
    there = np.isfinite(steps)
    count = there.sum(0)
    safe = np.maximum(count, 1)
    mean = np.where(there, steps, 0).sum(0) / safe
    squares = np.where(there, (steps - mean) ** 2, 0).sum(0)
    between = np.sqrt(squares / np.maximum(count * (count - 1), 1))
    one = np.where(there, np.nan_to_num(errors), 0).sum(0)
    spread = np.where(count > 1, between, one)
    nothing = [np.nan]
    falls = np.concatenate([nothing, np.where(count > 0, mean, np.nan)])
    return falls, np.concatenate([nothing, spread])


def images(network: MeasuredNetwork) -> int | None:
    """P, the number of images it was measured on; None where its file does not say."""
    record = json.loads(network.outline.attrs["measurement"] or "{}")
    settings = record.get("settings", {}) if isinstance(record, dict) else {}
    found = settings.get("images")
    return found if isinstance(found, int) else None


def warnings(network: MeasuredNetwork, found: Sequence[Layer]) -> list[str]:
    """Warnings for the reader, in sentences."""
    lines = []
    count = images(network)
    if count is not None and count < FEW_IMAGES:
        lines.append(
            f"Only {count} images: D and G divide by all ordered pairs, each image with itself "
            f"included, so that they are {count / (count - 1):.3f} times those of different "
            "images; R is not affected. The errors are large, too."
        )
    total = network.outline.sizes["seed"]
    for words, counts in {
        "Dead layers, whose activations are the same for all images, or not finite": [
            one.dead for one in found
        ],
        "R is undefined where the noise changes nothing, G = 0": [
            total - one.alive - one.dead for one in found
        ],
    }.items():
        pairs = zip(found, counts, strict=True)
        shown = ", ".join(f"{one.name} ({count} of {total})" for one, count in pairs if count > 0)
        lines += [f"{words}: {shown}."] if shown else []
    data = network.measured
    missing = _missing(data)
    if missing:
        lines.append(f"NaN in D, G or R at {missing}.")
    if "natural" in data and not bool(data["natural"].all()):
        shown = _unnatural(data["natural"])
        lines.append(f"Diffeomorphisms that are not natural (docs/protocol.md): {shown}.")
    if int(data.attrs.get("schema_version", 0)) < 2:
        lines.append("A file of schema 1: means over shuffles, without the single ones.")
    if "JPEG copies" in str(data.attrs.get("data_source", "")):
        lines.append("Its images were JPEG copies, not the originals.")
    return lines


def _missing(data: xr.Dataset) -> str:
    """Stages and transforms for which every value is NaN."""
    places = []
    for stage in data["stage"].values:
        for transform in data["transform"].values:
            cell = data["R"].sel(stage=stage, transform=transform)
            if not np.isfinite(cell.values).any():
                places.append(f"{stage}, {transform} (everywhere)")
    return "; ".join(places)


def _unnatural(natural: xr.DataArray) -> str:
    flat = natural.stack(kind=natural.dims)
    kinds = flat["kind"].values[~flat.values.astype(bool)]
    return ", ".join(f"delta {delta:g}, cut-off {cutoff:g}" for delta, cutoff in kinds)
