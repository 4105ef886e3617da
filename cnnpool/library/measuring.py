"""D, G and R of every layer of any network, as a labelled dataset in the schema of result files."""

from collections.abc import Iterable, Sequence
import hashlib
import json
import operator
from typing import Any, SupportsIndex

import jax.numpy as jnp
import numpy as np
import xarray as xr

from cnnpool.devices import numerics, runtime
from cnnpool.devices.progress_bar import ProgressBar
from cnnpool.files import results, schema
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.noise import check_kind
from cnnpool.instruments.perturbation import Inputs
from cnnpool.library import activations
from cnnpool.library import images as image_arrays
from cnnpool.library.activations import Layers
from cnnpool.library.measurable import Measurable
from cnnpool.library.recognition import measurable
from cnnpool.measuring import grid, pictures, sensitivities
from cnnpool.measuring import transforms as known_transforms
from cnnpool.measuring.inputs import max_entropy_perturbations, transform_key
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.settings import Settings
from cnnpool.runs import provenance
from cnnpool.training.variables import Variables

VERSION = 1  # of what is measured: raised where the same arguments give other numbers


@runtime.compilation_cache()
def measure(
    model: Any,
    images: Any,
    *,
    transforms: str | Sequence[str] = ("none",),
    deltas: int | float | Sequence[int | float] = (1.0,),
    cutoffs: SupportsIndex | Sequence[SupportsIndex] = (3,),
    noise: str | Sequence[str] = ("white",),
    interpolation: str = "bilinear",
    draws: SupportsIndex = 1,
    shuffles: SupportsIndex = 5,
    seed: SupportsIndex = 0,
    layers: Layers = None,
    batch: SupportsIndex = 0,
    variables: Any = None,
    name: str | None = None,
    stage: str = "trained",
) -> xr.Dataset:
    """Measures D, G and R of every layer of a network of any framework.

    For a layer f and P images x_i, each with its own diffeomorphism tau and noise eta of the same
    norm as tau(x_i) - x_i:

        D = mean_i ||f(tau x_i) - f(x_i)||^2 / mean_{i, j} ||f(x_i) - f(x_j)||^2

    The denominator averages over all P^2 ordered pairs, self-pairs included, which makes D and G
    larger by P / (P - 1) than with pairs of different images; G is the same with x_i + eta in place
    of tau x_i, and R = D / G. Activations are streamed, never all held in memory. A progress bar is
    shown in a terminal. Compiled programs are cached in ~/.cache/cnnpool, or where JAX keeps them,
    so that a second program starts quickly; JAX_COMPILATION_CACHE_DIR= (empty) keeps nothing.

    Args:
      model: a function from images (n, rows, columns, channels) to {layer: activations (n, ...)}
        in inference mode, in any framework: what JAX traces is compiled, anything else is given
        numpy arrays of float32; nested dicts and tuples are flattened, "block1/conv". Or a module
        of PyTorch (`cnnpool.torch.features`), a model of Keras 3 (`cnnpool.keras.features`), a file
        of ONNX (`cnnpool.onnx.features`), a module of Flax, linen with `variables` or NNX
        (`cnnpool.flax.features`), or of Equinox (`cnnpool.equinox.features`), or a network of
        `cnnpool.open`.
      images: (P, rows, columns, channels), square, floats as the network takes them; a
        torch.Tensor is (P, channels, rows, columns).
      transforms: the name or names of transforms of the network before it is measured: "none"; for
        modules also "channel_shuffle" (the input channels of every convolution but the first are
        permuted), "channel_shuffle_image" (the first one's too) and "channel_shuffle_both" (input
        and output channels of all); for networks of `cnnpool.open`, those of
        `cnnpool.measuring.transforms`.
      deltas: nominal displacement or displacements of the max-entropy diffeomorphisms, pixels.
      cutoffs: their cut-off or cut-offs c, in half-waves per side.
      noise: kind or kinds of noise: "white", "luma", "chroma".
      interpolation: the interpolation of deformed images: "bilinear", "nearest" or "gaussian".
      draws: the number of diffeomorphisms and noises drawn for each image.
      shuffles: the number of random channel shuffles.
      seed: the seed of diffeomorphisms, noise and shuffles, as `--seed` of cnnpool.eval; with the
        same seed, the same images are deformed in the same way for every network.
      layers: names or patterns ("layer1.*") of the layers that are wanted.
      batch: the number of images, including deformed and noisy ones, given to the network at once;
        0: as many as have a gigabyte of activations, on a CPU at most 75.
      variables: the variables of a linen module.
      name: the network's name in files and figures; None takes that of its function or class.
      stage: a label for the stage of its training.

    Returns:
      D, G, R and jackknife standard errors D_se, G_se, R_se over (seed, stage, transform, shuffle,
      layer, delta, cutoff, noise), with `depth` k = 1..K along `layer`, as
      `cnnpool.files.results` describes it; `data.cnnpool.plot()` draws it, `cnnpool.save` writes
      it.

    Raises:
      ValueError: if images are not square, not channels last, not finite, fewer than two or all
        the same; if a layer, transform or kind of noise is unknown; if the network is in training
        mode.
      TypeError: if pixels are not floats, the model names no activations, or a number is not whole.
    """
    clean = image_arrays.checked(images)
    settings = Settings(
        images=len(clean),
        draws=_whole("draws", draws),
        deltas=tuple(map(float, _several(deltas))),
        cutoffs=tuple(_whole("cutoffs", cutoff) for cutoff in _several(cutoffs)),
        interpolation=interpolation,
        shuffles=_whole("shuffles", shuffles),
        noise=tuple(_several(noise)),
        seed=_whole("seed", seed),
        batch_size=_whole("batch", batch),
    )
    for one in settings.noise:
        check_kind(one, clean.shape[-1])
    network = measurable(model, clean, variables=variables, layers=layers)
    names = network.parsed(_several(transforms))
    network = network.prepared(clean[:2])
    activations.check_independent(network, clean)
    labels = NetworkAtStage(network.seed, stage, untrained=False, variables=Variables({}, {}))
    cells = []
    with _progress_bar(names, settings) as bar:
        for kind, inputs in max_entropy_perturbations(jnp.asarray(clean), settings):
            found = _under_transforms(network, names, settings, inputs, bar)
            cell = sensitivities.of_network(found, label=f"seed {network.seed}, {stage}")
            beside = pictures.pooling_budget(found, network.depths)
            cells.append(grid.at(cell.assign(beside), labels, kind.coordinates))
    measured = grid.with_depths(grid.combined(cells), network.depths)
    measured["natural"] = pictures.natural(clean.shape[1], settings)
    attributes = _attributes(name or network.label, network, names, settings, clean)
    return schema.labelled(measured.assign_attrs(attributes))


def _several(values: Any) -> list[Any]:
    """The values of an argument that takes one or several."""
    return [values] if isinstance(values, str) or not isinstance(values, Iterable) else [*values]


def _whole(name: str, number: Any) -> int:
    """An int, also of numpy's integers, which JSON does not know."""
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {number!r}") from None


def _progress_bar(transforms: Sequence[str], settings: Settings) -> ProgressBar:
    """A progress bar over images."""
    runs = sum(known_transforms.repetitions(name, settings.shuffles) for name in transforms)
    total = settings.images * runs * len(settings.fields) * len(settings.noise)
    return ProgressBar(total, "measuring", "image", compiles=True)


def _under_transforms(
    network: Measurable,
    transforms: Sequence[str],
    settings: Settings,
    inputs: Inputs,
    bar: ProgressBar,
) -> dict[str, list[Moments]]:
    """The moments under every transform, a list over shuffles, by the keys of cnnpool.eval."""

    def measured(transform: str, number: int) -> Moments:
        key = transform_key(settings, network.seed, number)
        changed = network.transformed(transform, key)
        return changed.moments(inputs, batch_size=settings.batch_size, on_batch=bar.update)

    return {
        transform: [
            measured(transform, number)
            for number in range(known_transforms.repetitions(transform, settings.shuffles))
        ]
        for transform in transforms
    }


def _attributes(
    name: str,
    network: Measurable,
    transforms: Sequence[str],
    settings: Settings,
    clean: np.ndarray,
) -> dict[str, Any]:
    """Where the numbers come from, as every result file says it."""
    checksum = hashlib.sha256(np.ascontiguousarray(clean).data).hexdigest()
    source = f"{len(clean)} images of shape {clean.shape[1:]}, SHA-256 {checksum}"
    record = {
        "version": VERSION,
        "images": checksum,
        "transforms": list(transforms),
        "settings": settings.record(),
    } | network.record()
    config = {"model": {"name": name}, "data": {"name": "arrays"}, "seeds": [network.seed]}
    return {
        "schema_version": results.SCHEMA_VERSION,
        "config": json.dumps(config, indent=2, sort_keys=True),
        "measurement": json.dumps(numerics.recorded(record), sort_keys=True),
        "data_source": source,
    } | provenance.record()
