"""Sensitivities and spectra of all networks of a deep run, as labelled arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import functools
import itertools
import sys
import textwrap
from typing import Any, NamedTuple
import warnings

import jax
from jaxtyping import Float
import numpy as np
from tqdm import tqdm

from cnnpool import distributed, results
from cnnpool.data.images import MeasurementData
from cnnpool.diffeomorphisms import natural_flags
from cnnpool.measuring import image_network, image_spectra, image_transforms, units
from cnnpool.measuring.image_inputs import deformations, measurement_keys
from cnnpool.measuring.image_settings import Settings
from cnnpool.measuring.journal import Journal
from cnnpool.moments import ImageMoments
from cnnpool.perturbation import Inputs
from cnnpool.pooling_budget import Share, spatial_share
from cnnpool.sensitivity import Sensitivity, sensitivities
from cnnpool.training.image_step import Variables

Moments = dict[str, ImageMoments]
_SHUFFLED = tuple(f"{name}_shuffle_sd" for name in "DGR")
_UNDEFINED = Share(float("nan"), float("nan"))


class Network(NamedTuple):
    """One network of a run.

    Attributes:
      seed: its seed.
      stage: name of its stage.
      untrained: whether no step was made, so that its running statistics mean nothing.
      variables: its own.
    """

    seed: int
    stage: str
    untrained: bool
    variables: Variables


class Field(NamedTuple):
    """What is measured of one network with one kind of diffeomorphism.

    Attributes:
      sensitivities: of every unit under every transform, mean over shuffles.
      spread: standard deviations of D, G, R over shuffles; NaN for fewer than two.
      share: spatial share of the fall of R from the first layer to the last.
      layer_shares: of the fall from the layer in front, by unit.
    """

    sensitivities: dict[str, dict[str, Sensitivity]]
    spread: dict[str, dict[str, Float[np.ndarray, "3"]]]
    share: Share
    layer_shares: dict[str, Share]


def measure(
    model: Any,
    data: MeasurementData,
    networks: Sequence[Network],
    transforms: Sequence[str],
    settings: Settings,
    *,
    journal: Journal | None = None,
    random_power: Callable[[tuple[int, ...]], float] = image_spectra.pytorch_power,
) -> dict[str, tuple]:
    """Variables and coordinates of a result file, as `cnnpool.results` describes them.

    Args:
      model: of the networks.
      data: with the test images.
      networks: of all seeds at all stages, seed by seed.
      transforms: names that `image_transforms.parse` returned.
      settings: of the measurement.
      journal: keeps what is finished, where it is to outlive an interruption.
      random_power: of filters before training, see `image_spectra`.
    """
    fields: list[list[Field]] = []
    kinds: list[tuple[float, int]] = []
    repeats = sum(settings.shuffles if image_transforms.is_random(t) else 1 for t in transforms)
    own = data.own_perturbations is not None
    total = settings.images * repeats * len(networks) * (1 if own else len(settings.fields))
    with _progress_bar(total) as bar:
        for delta, cutoff, inputs in deformations(data, settings):
            kinds.append((delta, cutoff))
            fields.append([])
            for network in networks:
                kept = functools.partial(_kept, journal, f"{delta} {cutoff}")
                found = dict(
                    _under_transforms(model, network, transforms, settings, inputs, kept, bar)
                )
                fields[-1].append(_field(network, found))
    arrays = _arrays(networks, transforms, kinds, fields)
    if not own:
        arrays["natural"] = natural_kinds(data.test.images.shape[1], settings)
    return arrays | image_spectra.spectra(
        [network.variables for network in networks],
        arrays["layer"][1],
        shape=tuple(len(axis) for axis in _axes(networks)),
        random_power=random_power,
    )


def _progress_bar(total: int) -> tqdm:
    often = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total,
        desc="measuring",
        unit="image",
        mininterval=often,
        disable=not distributed.is_first(),
    )


def _kept(journal: Journal | None, kind: str, name: str, compute: Callable[[], Moments]) -> Moments:
    return journal.keep(f"{kind} {name}", compute) if journal else compute()


def _under_transforms(
    model: Any,
    network: Network,
    transforms: Sequence[str],
    settings: Settings,
    inputs: Inputs,
    kept: Callable[[str, Callable[[], Moments]], Moments],
    bar: tqdm,
) -> Iterator[tuple[str, list[Moments]]]:
    """The moments of one network under every transform, a list over shuffles."""
    own = jax.random.fold_in(measurement_keys(settings.seed).transform, network.seed)
    original: Moments | None = None
    for transform in transforms:
        random = image_transforms.is_random(transform)
        moments = []
        for number in range(settings.shuffles if random else 1):
            compute = functools.partial(
                image_network.moments,
                model,
                network.variables,
                transform,
                jax.random.fold_in(own, number),
                inputs,
                untrained=network.untrained,
                own_statistics=settings.own_statistics,
                batch_size=settings.batch_size,
                on_batch=functools.partial(_after_batch, bar),
                original=original,
            )
            name, before = f"seed {network.seed} {network.stage} {transform} {number}", bar.n
            moments.append(kept(name, compute))
            bar.update(before + settings.images - bar.n)  # what was there from an earlier start
        if transform == image_transforms.NONE:
            original = moments[0]
        yield transform, moments


def _after_batch(bar: tqdm, images: int) -> None:
    """Shows progress; of several processes it is here that they agree to end."""
    bar.update(images)
    distributed.end_if_asked(f"after {bar.n} of {bar.total} images")


def _field(network: Network, found: Mapping[str, list[Moments]]) -> Field:
    values, spread = {}, {}
    for transform, shuffles in found.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            each = [sensitivities(moments) for moments in shuffles]
        for text in dict.fromkeys(str(warning.message) for warning in caught):
            text = f"seed {network.seed}, {network.stage}, {transform}: {text}"
            if distributed.is_first():
                tqdm.write(textwrap.shorten(text, 160, placeholder=" ..."), file=sys.stderr)
        values[transform] = {
            unit: Sensitivity(*np.mean([one[unit] for one in each], axis=0).tolist())
            for unit in each[0]
        }
        spread[transform] = {
            unit: np.std([one[unit][:3] for one in each], axis=0, ddof=1)
            if len(each) > 1
            else np.full(3, np.nan)
            for unit in each[0]
        }
    return Field(values, spread, *_budget(found))


def _budget(found: Mapping[str, list[Moments]]) -> tuple[Share, dict[str, Share]]:
    """Spatial shares, where the network was measured as it is and shuffled."""
    if not {image_transforms.NONE, image_transforms.SHUFFLE} <= found.keys():
        return _UNDEFINED, {}
    (original,), shuffled = found[image_transforms.NONE], found[image_transforms.SHUFFLE]
    layers = [
        unit for unit, depth in zip(original, units.depths(list(original)), strict=True) if depth
    ]

    def between(first: str, last: str) -> Share:
        pairs = [(moments[first], moments[last]) for moments in shuffled]
        return spatial_share((original[first], original[last]), pairs)

    steps = {last: between(first, last) for first, last in itertools.pairwise(layers)}
    return between(layers[0], layers[-1]), steps


def _arrays(
    networks: Sequence[Network],
    transforms: Sequence[str],
    kinds: Sequence[tuple[float, int]],
    fields: Sequence[Sequence[Field]],
) -> dict[str, tuple]:
    """Sensitivities and shares; the dimensions delta and cutoff are left out for own moves."""
    seeds, stages = _axes(networks)
    names = list(fields[0][0].sensitivities[transforms[0]])
    deltas, cutoffs = (list(dict.fromkeys(values)) for values in zip(*kinds, strict=True))
    own = bool(np.isnan(deltas[0]))
    inner = () if own else ("delta", "cutoff")
    shape = () if own else (len(deltas), len(cutoffs))

    def gather(value, *between: str) -> tuple[tuple[str, ...], np.ndarray]:
        """From (delta and cutoff, seed and stage, ...) to (seed, stage, ..., delta, cutoff)."""
        cells = np.array([[value(one) for one in row] for row in fields], np.float64)
        last = np.moveaxis(cells, 0, -1)
        last = last.reshape(len(seeds), len(stages), *last.shape[1:-1], *shape)
        return ("seed", "stage", *between, *inner), last

    def by_unit(pick):
        return gather(
            lambda one: [[pick(one, t, unit) for unit in names] for t in transforms],
            "transform",
            "layer",
        )

    depths = [depth or np.nan for depth in units.depths(names)]
    arrays: dict[str, tuple] = {
        "layer": ("layer", names),
        "depth": ("layer", np.array(depths, float)),
        "transform": ("transform", list(transforms)),
    }
    for name in results.SENSITIVITIES:
        arrays[name] = by_unit(lambda one, t, u, name=name: getattr(one.sensitivities[t][u], name))
    for place, name in enumerate(_SHUFFLED):
        arrays[name] = by_unit(lambda one, t, u, place=place: one.spread[t][u][place])
    has_budget = {image_transforms.NONE, image_transforms.SHUFFLE} <= set(transforms)
    for name, part in (
        (("spatial_share", "value"), ("spatial_share_se", "se")) if has_budget else ()
    ):
        arrays[name] = gather(lambda one, part=part: getattr(one.share, part))
        arrays[f"layer_{name}"] = gather(
            lambda one, part=part: [
                getattr(one.layer_shares.get(unit, _UNDEFINED), part) for unit in names
            ],
            "layer",
        )
    if not own:
        arrays |= {"delta": ("delta", deltas), "cutoff": ("cutoff", cutoffs)}
    return arrays


def _axes(networks: Sequence[Network]) -> tuple[list[int], list[str]]:
    seeds = list(dict.fromkeys(network.seed for network in networks))
    return seeds, list(dict.fromkeys(network.stage for network in networks))


def natural_kinds(size: int, settings: Settings) -> tuple[tuple[str, str], np.ndarray]:
    """Whether the diffeomorphisms of every delta and cut-off are natural, with a warning if not.

    Args:
      size: of the images, pixels a side.
      settings: with the deltas and cut-offs.
    """
    flags = natural_flags(settings.fields, size=size)
    shape = len(settings.deltas), len(settings.cutoffs)
    return ("delta", "cutoff"), np.array(flags).reshape(shape)
