"""Sensitivities and spectra of all networks of a deep run, as labelled arrays."""

from collections.abc import Callable, Mapping, Sequence
import functools
import itertools
import sys
import textwrap
from typing import Any, NamedTuple
import warnings

import jax
import numpy as np
from tqdm import tqdm

from cnnpool.data.images import MeasurementData
from cnnpool.devices import distributed
from cnnpool.files import results
from cnnpool.instruments.diffeomorphisms import natural_flags
from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.pooling_budget import Share, spatial_share
from cnnpool.instruments.sensitivity import Sensitivity, sensitivities
from cnnpool.measuring import image_network, image_spectra, image_transforms, units
from cnnpool.measuring.image_inputs import OWN, Perturbation, measurement_keys, perturbations
from cnnpool.measuring.image_settings import Settings
from cnnpool.measuring.journal import Journal
from cnnpool.measuring.progress import MeasuringBar
from cnnpool.training.image_step import Variables

Moments = dict[str, ImageMoments]
Depths = Callable[[Sequence[str]], list[int | None]]  # k of units, None of those not plotted
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
    """What is measured of one network under one perturbation.

    Attributes:
      sensitivities: of every unit under every transform, one dict a shuffle.
      shares: spatial share of the fall of R from the first layer to the last, by shuffle of all
        layers.
      layer_shares: of the fall from the layer in front, by shuffle and unit.
    """

    sensitivities: dict[str, list[dict[str, Sensitivity]]]
    shares: dict[str, Share]
    layer_shares: dict[str, dict[str, Share]]


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
    """Variables and coordinates of a result file, as `cnnpool.files.results` describes them.

    Args:
      model: of the networks.
      data: with the test images.
      networks: of all seeds at all stages, seed by seed.
      transforms: names that `image_transforms.parse` returned.
      settings: of the measurement.
      journal: keeps what is finished, where it is to outlive an interruption.
      random_power: of filters before training, see `image_spectra`.
    """
    _say_what_is_equivalent(networks[0].variables, transforms)
    fields: list[list[Field]] = []
    kinds: list[Perturbation] = []
    repeats = sum(settings.shuffles if image_transforms.is_random(t) else 1 for t in transforms)
    own = data.own_perturbations is not None
    total = settings.images * repeats * len(networks)
    total *= 1 if own else len(settings.fields) * len(settings.noise)
    with _progress_bar(total) as bar:
        for kind, inputs in perturbations(data, settings):
            kinds.append(kind)
            fields.append([])
            for network in networks:
                kept = functools.partial(_kept, journal, kind.label)
                found = _under_transforms(model, network, transforms, settings, inputs, kept, bar)
                fields[-1].append(field(network, found))
    measured = arrays(networks, transforms, kinds, fields)
    if not own:
        measured["natural"] = natural_kinds(data.test.images.shape[1], settings)
    return measured | image_spectra.spectra(
        [network.variables for network in networks],
        measured["layer"][1],
        shape=tuple(len(axis) for axis in _axes(networks)),
        random_power=random_power,
    )


def _say_what_is_equivalent(variables: Variables, transforms: Sequence[str]) -> None:
    """Prints which transforms do the same as others to a network without batch normalization."""
    for name in transforms:
        same = image_transforms.equivalent(name, variables)
        if same != name and distributed.is_first():
            tqdm.write(
                f"{name}: the network has no batch normalization, so there are no statistics to "
                f"take; its numbers are those of {same}",
                file=sys.stderr,
            )


def _progress_bar(total: int) -> MeasuringBar:
    often = 0.5 if sys.stderr.isatty() else 30.0
    return MeasuringBar(
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
    bar: MeasuringBar,
) -> dict[str, list[Moments]]:
    """The moments of one network under every transform, a list over shuffles."""
    own = jax.random.fold_in(measurement_keys(settings.seed).transform, network.seed)
    found: dict[str, list[Moments]] = {}

    def measured(transform: str, number: int) -> Moments:
        compute = functools.partial(
            image_network.moments,
            model,
            network.variables,
            transform,
            jax.random.fold_in(own, number),
            inputs,
            untrained=network.untrained,
            batch_size=settings.batch_size,
            on_batch=functools.partial(_after_batch, bar),
            original=found.get(image_transforms.NONE, [None])[0],
        )
        return kept(f"seed {network.seed} {network.stage} {transform} {number}", compute)

    for transform in transforms:
        same = image_transforms.equivalent(
            transform, network.variables, untrained=network.untrained
        )
        count = settings.shuffles if image_transforms.is_random(transform) else 1
        done = found.get(same, [])
        for number in range(len(done), count):
            before = bar.n
            done = [*done, measured(same, number)]
            bar.found(before + settings.images - bar.n)  # what was there from an earlier start
        if same in found:
            bar.found(settings.images * count)
        found[same] = found[transform] = done
    return found


def _after_batch(bar: MeasuringBar, images: int) -> None:
    """Shows progress; of several processes it is here that they agree to end."""
    bar.computed(images)
    distributed.end_if_asked(f"after {bar.n} of {bar.total} images")


def field(
    network: Network, found: Mapping[str, list[Moments]], depths: Depths = units.depths
) -> Field:
    """Sensitivities and shares of one network under one perturbation; says what is dead.

    Args:
      network: for messages.
      found: its moments under every transform, a list over shuffles.
      depths: of its units.
    """
    values = {}
    for transform, shuffles in found.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values[transform] = [sensitivities(moments) for moments in shuffles]
        for text in dict.fromkeys(str(warning.message) for warning in caught):
            text = f"seed {network.seed}, {network.stage}, {transform}: {text}"
            if distributed.is_first():
                tqdm.write(textwrap.shorten(text, 160, placeholder=" ..."), file=sys.stderr)
    budgets = {name: _budget(found, name, depths) for name in _budgeted(list(found))}
    shares = {name: share for name, (share, _) in budgets.items()}
    return Field(values, shares, {name: by_layer for name, (_, by_layer) in budgets.items()})


def _budgeted(transforms: Sequence[str]) -> list[str]:
    """The shuffles of which a pooling budget can be made: of all layers, beside the original."""
    there = image_transforms.NONE in transforms
    return [name for name in image_transforms.SHUFFLES if there and name in transforms]


def _budget(
    found: Mapping[str, list[Moments]], shuffle: str, depths: Depths
) -> tuple[Share, dict[str, Share]]:
    """Spatial shares of a network, from end to end and by unit."""
    (original,), shuffled = found[image_transforms.NONE], found[shuffle]
    layers = [unit for unit, depth in zip(original, depths(list(original)), strict=True) if depth]

    def between(first: str, last: str, *, least_decades: float = 0.0) -> Share:
        pairs = [(moments[first], moments[last]) for moments in shuffled]
        both = original[first], original[last]
        return spatial_share(both, pairs, least_decades=least_decades)

    steps = {last: between(first, last) for first, last in itertools.pairwise(layers)}
    return between(layers[0], layers[-1], least_decades=results.LEAST_FALL), steps


def arrays(
    networks: Sequence[Network],
    transforms: Sequence[str],
    kinds: Sequence[Perturbation],
    fields: Sequence[Sequence[Field]],
    depths: Depths = units.depths,
) -> dict[str, tuple]:
    """Sensitivities and shares; own moves have no dimensions delta, cutoff and noise.

    Args:
      networks: seed by seed, of all seeds at all stages.
      transforms: under which they were measured.
      kinds: of perturbation.
      fields: of every perturbation and network.
      depths: of units.
    """
    seeds, stages = _axes(networks)
    names = list(fields[0][0].sensitivities[transforms[0]][0])
    shuffles = max(len(fields[0][0].sensitivities[name]) for name in transforms)
    axes = {} if kinds[0].noise == OWN else _perturbation_axes(kinds)
    shape = tuple(len(values) for values in axes.values())

    def gather(value, *between: str) -> tuple[tuple[str, ...], np.ndarray]:
        """From (perturbation, network, ...) to (seed, stage, ..., delta, cutoff, noise)."""
        cells = np.array([[value(one) for one in row] for row in fields], np.float64)
        last = np.moveaxis(cells, 0, -1)
        last = last.reshape(len(seeds), len(stages), *last.shape[1:-1], *shape)
        return ("seed", "stage", *between, *axes), last

    def by_shuffle(field: Field, transform: str, name: str) -> list[list[float]]:
        there = field.sensitivities[transform]
        rows = [[getattr(one[unit], name) for unit in names] for one in there]
        return rows + [[np.nan] * len(names)] * (shuffles - len(there))

    found: dict[str, tuple] = {
        "layer": ("layer", names),
        "depth": ("layer", np.array([depth or np.nan for depth in depths(names)], float)),
        "transform": ("transform", list(transforms)),
        "shuffle": ("shuffle", list(range(shuffles))),
    }
    for name in results.SENSITIVITIES:
        found[name] = gather(
            lambda one, name=name: [by_shuffle(one, t, name) for t in transforms],
            *("transform", "shuffle", "layer"),
        )
    if _budgeted(transforms):
        found |= _shares(gather, transforms, names)
    return found | {name: (name, values) for name, values in axes.items()}


def _perturbation_axes(kinds: Sequence[Perturbation]) -> dict[str, list]:
    """The values of delta, cutoff and noise, in their order."""
    columns = zip(Perturbation._fields, zip(*kinds, strict=True), strict=True)
    return {name: list(dict.fromkeys(values)) for name, values in columns}


def _shares(
    gather: Callable[..., tuple], transforms: Sequence[str], names: Sequence[str]
) -> dict[str, tuple]:
    """Spatial shares and their errors, NaN for what is no shuffle of all layers."""
    arrays = {}
    for name, part in (("spatial_share", "value"), ("spatial_share_se", "se")):
        arrays[name] = gather(
            lambda one, part=part: [
                getattr(one.shares.get(t, _UNDEFINED), part) for t in transforms
            ],
            "transform",
        )
        arrays[f"layer_{name}"] = gather(
            lambda one, part=part: [
                [getattr(one.layer_shares.get(t, {}).get(u, _UNDEFINED), part) for u in names]
                for t in transforms
            ],
            *("transform", "layer"),
        )
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
