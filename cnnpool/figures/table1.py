"""Table 1: channel-averaged filters before and after training, of every network."""

import numpy as np
import xarray as xr

# Table 1 of the paper: one network, H = 1000.
PAPER_TRAINED = (
    (0.2928, 0.2605, 0.2928),
    (0.0039, 0.0035, 0.0039),
    (0.0043, 0.0038, 0.0043),
    (0.0039, 0.0033, 0.0038),
    (0.0038, 0.0032, 0.0038),
    (0.0038, 0.0031, 0.0038),
    (0.0041, 0.0032, 0.0040),
    (0.0036, 0.0024, 0.0035),
    (0.0021, 0.0016, 0.0017),
    (-0.0013, -0.0008, -0.0010),
    (0.0002, 0.0002, 0.0002),
    (0.0009, 0.0008, 0.0009),
)
POSITIVE_LAYERS = 9


def filters(dataset: xr.Dataset, stage: str) -> xr.DataArray:
    """Channel-averaged filters at a stage, (seed, layer, tap), convolutions only.

    Raises:
      ValueError: if the dataset lacks the stage or the untransformed networks.
    """
    if stage not in dataset["stage"] or "none" not in dataset["transform"]:
        raise ValueError(
            f"Table 1 needs stages init and trained with transform none; got stages "
            f"{list(dataset['stage'].values)}, transforms {list(dataset['transform'].values)}"
        )
    names = [name for name in dataset["layer"].values if str(name).startswith("conv")]
    cell = dataset["mean_filter"].sel(stage=stage, transform="none", layer=names)
    return cell.transpose("seed", "layer", "tap")


def all_positive(trained: xr.DataArray) -> xr.DataArray:
    """By seed: whether the mean filters of the first nine layers are positive at every tap."""
    return (trained.isel(layer=slice(POSITIVE_LAYERS)) > 0).all(("layer", "tap"))


def markdown(dataset: xr.Dataset) -> str:
    """Table 1 for each seed, and the spread over seeds, as markdown."""
    init, trained = filters(dataset, "init"), filters(dataset, "trained")
    parts = []
    for seed in dataset["seed"].values:
        parts.append(f"### Seed {seed}\n")
        parts.append(_table(init.sel(seed=seed).values, trained.sel(seed=seed).values))
    if dataset.sizes["seed"] > 1:
        parts.append("### Mean ± standard deviation over seeds, after training\n")
        parts.append(_spread(trained))
    positive = all_positive(trained)
    parts.append(
        f"Positive at every tap of layers 1 to {min(POSITIVE_LAYERS, trained.sizes['layer'])}: "
        f"{int(positive.sum())} of {positive.size} networks."
    )
    return "\n".join(parts) + "\n"


def _row(values: np.ndarray) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in values) + "]"


def _table(init: np.ndarray, trained: np.ndarray) -> str:
    lines = ["| k | initialization | after training |", "|---|---|---|"]
    for k, (before, after) in enumerate(zip(init, trained, strict=True), 1):
        lines.append(f"| {k} | {_row(before)} | {_row(after)} |")
    return "\n".join(lines) + "\n"


def _spread(trained: xr.DataArray) -> str:
    mean, deviation = trained.mean("seed").values, trained.std("seed", ddof=1).values
    comparable = mean.shape == np.shape(PAPER_TRAINED)
    head = "| k | mean | standard deviation |" + (" paper (H = 1000) |" if comparable else "")
    lines = [head, "|---" * (head.count("|") - 1) + "|"]
    for k, (center, spread) in enumerate(zip(mean, deviation, strict=True), 1):
        paper = f" {_row(np.array(PAPER_TRAINED[k - 1]))} |" if comparable else ""
        lines.append(f"| {k} | {_row(center)} | {_row(spread)} |{paper}")
    return "\n".join(lines) + "\n"
