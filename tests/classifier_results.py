"""Made-up results of classifiers with known answers, in the schema of `cnnpool.files.results`.

Of seeds 0..n-1 the values are the stated ones times 1 + 0.1 (seed - (n - 1) / 2): their mean is
exact. Units that no figure plots hold `WRONG`.
"""

from collections.abc import Sequence
import json

import numpy as np
import xarray as xr

from cnnpool.files import results
from cnnpool.instruments.filter_spectrum import laplacian_modes

WRONG = 7.0
IMAGE_ERROR, SHUFFLE_SPREAD = 0.05, 0.1  # of a value: its _se over images, its sd over shuffles
SHUFFLES = 4  # of random transforms; the mean of their logarithms is the stated value's
SLOPE = {"none": 1.5, "channel_shuffle": 0.5}  # decades that R falls over the whole depth
_POOLED = {
    "lenet": (True, True),
    "alexnet": (True, True, False, False, True),
    "vgg11": (True, True, False, True, False, True, False, True),
    "vgg13_bn": (False, True) * 5,
}
_LINEAR = {"lenet": 3, "alexnet": 3}
_FILTER_SIZE = {"lenet": 5}


def units(model: str) -> tuple[list[str], list[float], list[int]]:
    """Names, depths (NaN where not plotted) and kernel sizes (0: no convolution) of all units."""
    norm = model.endswith("_bn")
    pooled = _POOLED.get(model, _POOLED["vgg11"])
    names, depth, size = [], [], []
    for k, has_pool in enumerate(pooled, start=1):
        kinds = ["conv", *(["bn"] if norm else []), "relu", *(["pool"] if has_pool else [])]
        names += [f"{kind}{k:02d}" for kind in kinds]
        depth += [np.nan] * (len(kinds) - 1) + [k]
        size += [_FILTER_SIZE.get(model, 3)] + [0] * (len(kinds) - 1)
    count = _LINEAR.get(model, 1)
    for k in range(len(pooled) + 1, len(pooled) + count + 1):
        kinds = ["linear"] if k == len(pooled) + count else ["linear", "relu"]
        names += [f"{kind}{k:02d}" for kind in kinds]
        depth += [np.nan] * (len(kinds) - 1) + [float(k)]
        size += [0] * len(kinds)
    return names, depth, size


def learned(stage: str, epochs: int) -> float:
    """How much of training is done, 0 to 1."""
    return (
        {"init": 0.0, "trained": 1.0, "last": 1.0}[stage]
        if stage.isalpha()
        else (int(stage) / epochs)
    )


def relative_sensitivity(share: np.ndarray, stage: str, transform: str, epochs: int) -> np.ndarray:
    """R at relative depth k/K."""
    slope = SLOPE["channel_shuffle" if is_random(transform) else "none"]
    return 10 ** (-slope * share * learned(stage, epochs))


def noise_sensitivity(share: np.ndarray, stage: str, transform: str, epochs: int) -> np.ndarray:
    """G at relative depth k/K; shuffles leave it."""
    del transform
    return 0.01 * (1 + share * learned(stage, epochs))


def network(
    model: str = "vgg11_bn",
    data: str = "cifar10",
    *,
    stages: Sequence[str] = ("init", "trained"),
    transforms: Sequence[str] = ("none", "channel_shuffle"),
    seeds: int = 3,
    test_error: float = 0.1,
    factor: float = 1.0,
    deltas: Sequence[float] = (1.0,),
    cutoffs: Sequence[int] = (3,),
    noises: Sequence[str] = ("white",),
    image_noise: float = 0.0,
    width_factor: float = 1.0,
    epochs: int = 100,
) -> xr.Dataset:
    """One run.

    Args:
      model: lenet, alexnet or a VGG (others have VGG11's layers).
      data: cifar10 and others have displacements, scale2d has none.
      stages: init, trained, last, epochs.
      transforms: none and shuffles.
      seeds: how many networks.
      test_error: of trained networks, mean over seeds.
      factor: on R; G is divided by its root, so that D, too, is multiplied by its root.
      deltas: R is multiplied by delta^0.1 (cutoff / 3)^0.2.
      cutoffs: see deltas.
      noises: kinds of noise, all with the same values.
      image_noise: of the config.
      width_factor: of the config.
      epochs: of the config.
    """
    names, depth, sizes = units(model)
    spread = 1 + 0.1 * (np.arange(seeds) - (seeds - 1) / 2)
    share = np.array(depth) / np.nanmax(depth)
    inner = () if data == "scale2d" else ("delta", "cutoff", "noise")
    coordinates: dict = {
        "seed": np.arange(seeds),
        "stage": list(stages),
        "transform": list(transforms),
        "shuffle": np.arange(SHUFFLES),
        "layer": names,
        "depth": ("layer", np.array(depth)),
    }
    variables = _errors(stages, spread, test_error, epochs)
    fields = np.ones(())
    if inner:
        coordinates |= {"delta": list(deltas), "cutoff": list(cutoffs), "noise": list(noises)}
        natural = [[0.5 <= d <= 32 / (np.pi * c) for c in cutoffs] for d in deltas]
        variables["natural"] = (inner[:2], np.array(natural))
        fields = np.multiply.outer(np.power(deltas, 0.1), (np.array(cutoffs) / 3) ** 0.2)
        fields = np.multiply.outer(fields, np.ones(len(noises)))
    g, r = (
        [[one(share, stage, transform, epochs) for transform in transforms] for stage in stages]
        for one in (noise_sensitivity, relative_sensitivity)
    )
    g, r = np.array(g) / factor**0.5, np.array(r) * factor
    for name, nominal in {"D": r * g, "G": g, "R": r}.items():
        nominal = np.where(np.isnan(share), WRONG, nominal) * spread[:, None, None, None]
        values = np.multiply.outer(nominal, np.ones_like(fields) if name == "G" else fields)
        variables |= _with_errors(name, values, inner, transforms)
    if any(sizes):
        variables |= _spectra(names, sizes, stages, spread, epochs)
    attributes = _attributes(model, data, image_noise, width_factor, epochs)
    return xr.Dataset(variables, coordinates, attributes)


def _with_errors(name, values, inner, transforms) -> dict:
    """With the shuffles of random transforms, whose logarithms have the mean and spread stated."""
    dims = ("seed", "stage", "transform", "shuffle", "layer", *inner)
    signs = np.resize([1.0, -1.0], SHUFFLES)
    shuffled = np.exp(signs / signs.std(ddof=1) * SHUFFLE_SPREAD)
    alone = np.where(np.arange(SHUFFLES) == 0, 1.0, np.nan)
    factors = np.array([shuffled if is_random(transform) else alone for transform in transforms])
    each = values[:, :, :, None] * factors.reshape(*factors.shape, *(1,) * (1 + len(inner)))
    return {name: (dims, each), f"{name}_se": (dims, each * IMAGE_ERROR)}


def is_random(transform: str) -> bool:
    """Whether a transform is drawn several times."""
    return transform.startswith("channel_shuffle")


def of_schema_1(dataset: xr.Dataset) -> xr.Dataset:
    """What an older version would have written of the same networks: means and spreads."""
    kept = dataset.drop_vars("noise").isel(noise=0) if "noise" in dataset.dims else dataset
    found = {}
    for name in "DGR":
        random = xr.DataArray([is_random(t) for t in kept["transform"].values], dims="transform")
        found[name] = kept[name].mean("shuffle")
        found[f"{name}_se"] = kept[f"{name}_se"].mean("shuffle")
        found[f"{name}_shuffle_sd"] = kept[name].std("shuffle", ddof=1).where(random)
    return kept.drop_dims("shuffle").assign(found).assign_attrs(schema_version=1)


def trained_frequency(k: int) -> float:
    """Figure 8's aggregate of layer k after training; 1 at initialization."""
    return 0.3 + 0.05 * k


def trained_power(eigenvalues: np.ndarray, level: float) -> np.ndarray:
    """gamma_{k,l} after training; `level` at initialization."""
    return level * 10 ** (-eigenvalues / 4)


def _spectra(names, sizes, stages, spread, epochs) -> dict:
    modes = max(sizes) ** 2
    eigenvalue = np.full((len(names), modes), np.nan)
    gamma = np.full((len(spread), len(stages), len(names), modes), np.nan)
    frequency = np.full(gamma.shape[:-1], np.nan)
    random = np.full(len(names), np.nan)
    layer = 0
    for place, size in enumerate(sizes):
        if not size:
            continue
        layer += 1
        eigenvalue[place, : size**2] = laplacian_modes(size)[1]
        random[place] = 0.01 / layer
        for i, stage in enumerate(stages):
            done = learned(stage, epochs)
            power = random[place] * 10 ** (-done * eigenvalue[place] / 4)
            gamma[:, i, place] = power * spread[:, None]
            frequency[:, i, place] = (1 + done * (trained_frequency(layer) - 1)) * spread
    by_layer = ("seed", "stage", "layer")
    return {
        "frequency": ("frequency", np.arange(1, modes + 1)),
        "eigenvalue": (("layer", "frequency"), eigenvalue),
        "gamma": ((*by_layer, "frequency"), gamma),
        "gamma_se": ((*by_layer, "frequency"), gamma * IMAGE_ERROR),
        "gamma_random": ("layer", random),
        "filter_frequency": (by_layer, frequency),
        "filter_frequency_se": (by_layer, frequency * IMAGE_ERROR),
    }


def _errors(stages, spread, test_error, epochs) -> dict:
    final = [0.9 if stage == "init" else test_error for stage in stages]
    epoch = {"init": 0, "trained": epochs // 2, "last": epochs}
    return {
        "test_error": (("seed", "stage"), spread[:, None] * np.array(final)),
        "test_loss": (("seed", "stage"), spread[:, None] * np.array(final)),
        "epoch": ("stage", [epoch[s] if s in epoch else int(s) for s in stages]),
    }


def _attributes(model, data, image_noise, width_factor, epochs) -> dict:
    test_size = {"scale2d": 4096, "cifar10": 0}
    fields: dict = {"name": data}
    if data in test_size:
        fields["test_size"] = test_size[data]
    if data != "scale2d":
        fields["image_noise"] = image_noise
    config = {
        "data": fields,
        "model": {"name": model, "width_factor": width_factor},
        "training": {"epochs": epochs},
    }
    attributes: dict = dict.fromkeys(results.ATTRIBUTES, "{}")
    attributes |= {"schema_version": results.SCHEMA_VERSION, "config": json.dumps(config)}
    return attributes | {"data_source": f"made-up {data}"}
