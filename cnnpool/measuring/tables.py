"""The results of a measurement, as text for a terminal."""

import itertools

import numpy as np
import xarray as xr

from cnnpool.files import results
from cnnpool.measuring.transforms import SHUFFLES


def layer_table(dataset: xr.Dataset, *, all_units: bool = False) -> str:
    """D, G, R of every layer, averaged over seeds, for each stage, transform and perturbation.

    Several random shuffles are averaged by the mean of their logarithms.

    The error is the standard error over seeds, or the one over images for a single seed.
    Networks in which a layer is dead, so that a number is not finite, are left out of its mean, and
    the table gives the number that remain. For classifiers, one unit per layer is listed, as in
    figures.

    Args:
      dataset: a measured dataset.
      all_units: whether to list all units of classifiers.
    """
    lines = []
    seeds = dataset.sizes["seed"]
    shown = results.over_shuffles(dataset)
    if "test_loss" in dataset and not all_units:
        shown = shown.isel(layer=dataset["depth"].notnull().values)
    for kind, part in _perturbations(shown):
        for stage in part["stage"].values:
            for transform in part["transform"].values:
                cell = part.sel(stage=stage, transform=transform)
                mean_error = float(cell["test_error"].mean()) if "test_error" in cell else np.nan
                error = f"test error {mean_error:.2%}"
                known = not np.isnan(mean_error) and (
                    transform == "none" or "transform" in part["test_error"].dims
                )
                about = f"{seeds} seed{'s' if seeds > 1 else ''}" + (f", {error}" if known else "")
                lines.append(f"\n{stage}, {transform}{kind} ({about})")
                lines.append(f"{'layer':24s}" + "".join(f"{n:>12s} ± se     " for n in "DGR"))
                for layer in part["layer"].values:
                    row = cell.sel(layer=layer)
                    lines.append(f"{layer:24s}" + "".join(_mean_and_error(row, n) for n in "DGR"))
    return "\n".join(lines).strip()


def _perturbations(dataset: xr.Dataset):
    """(description, part) of every delta, cut-off and kind of noise."""
    if "delta" not in dataset.dims:
        yield "", dataset
        return
    kinds = [str(kind) for kind in dataset["noise"].values] if "noise" in dataset.dims else [None]
    for delta, cutoff, kind in itertools.product(
        dataset["delta"].values, dataset["cutoff"].values, kinds
    ):
        part = dataset.sel(delta=delta, cutoff=cutoff)
        part = part if kind is None else part.sel(noise=kind)
        noise = "" if kind in (None, "white") else f", {kind} noise"
        doubt = "" if bool(part["natural"]) else ", not natural: out of T_min..T_max"
        yield f", delta {delta:g}, cut-off {cutoff}{noise}{doubt}", part


def _mean_and_error(row: xr.Dataset, name: str) -> str:
    values, errors = row[name].values, row[f"{name}_se"].values
    alive = np.isfinite(values)
    count = int(alive.sum())
    if not count:
        return f"{'undefined':>12s}{'':10s}"
    several = count > 1
    error = values[alive].std(ddof=1) / np.sqrt(count) if several else float(errors[alive][0])
    left = "" if count == len(values) else f" ({count} of {len(values)})"
    return f"{values[alive].mean():12.4g} ± {error:<7.2g}{left}"


def budget_table(dataset: xr.Dataset) -> str:
    """The spatial share of the fall of R, one line per seed, stage, shuffle and perturbation."""
    lines = [f"{'stage':10s}{'seed':>6s}   spatial share of the fall of log R (the rest: channels)"]
    shuffles = [str(name) for name in dataset["transform"].values if name in SHUFFLES]
    for kind, part in _perturbations(dataset):
        for stage, shuffle, seed in itertools.product(
            part["stage"].values, shuffles, part["seed"].values
        ):
            cell = part.sel(stage=stage, seed=seed, transform=shuffle)
            share, error = float(cell["spatial_share"]), float(cell["spatial_share_se"])
            text = (
                f"undefined: R does not fall by more than {results.LEAST_FALL:g} decades"
                if np.isnan(share)
                else f"{share:.3f} ± {error:.3f}"
            )
            lines.append(f"{stage:10s}{seed:>6d}   {text}, {shuffle}{kind}")
    return "\n".join(lines)


def error_table(dataset: xr.Dataset) -> str:
    """Test error and loss of every network, one line per seed and stage."""
    lines = [f"{'stage':10s}{'seed':>6s}{'test error':>12s}{'test loss':>12s}{'best epoch':>12s}"]
    for stage in dataset["stage"].values:
        for seed in dataset["seed"].values:
            cell = dataset.sel(stage=stage, seed=seed)
            best = "-" if cell["best_epoch"].isnull() else f"{int(cell['best_epoch'])}"
            dead = "" if cell["dead_epoch"].isnull() else f"  dead: epoch {int(cell['dead_epoch'])}"
            error, loss = float(cell["test_error"]), float(cell["test_loss"])
            shown = "unknown" if np.isnan(error) else f"{error:.2%}"
            lines.append(f"{stage:10s}{seed:>6d}{shown:>12s}{loss:>12.4g}{best:>12s}{dead}")
    return "\n".join(lines)
