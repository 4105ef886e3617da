"""D, G and R of all networks of a run, as labelled arrays."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import textwrap
import warnings

import numpy as np
import xarray as xr

from cnnpool.devices import distributed
from cnnpool.devices.progress_bar import ProgressBar, say
from cnnpool.files import results
from cnnpool.instruments.moments import Moments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.measuring import grid, transforms
from cnnpool.measuring.inputs import kinds
from cnnpool.measuring.journal import Journal
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.run import Run

ByTransform = Mapping[str, list[Moments]]  # a list over shuffles


def measure(
    run: Run,
    networks: Sequence[NetworkAtStage],
    names: Sequence[str],
    journal: Journal | None = None,
    *,
    quiet: bool = False,
) -> xr.Dataset:
    """D, G, R of every unit of every network, and what else the run measures.

    Args:
      run: the run of the networks.
      networks: networks of all seeds at all stages.
      names: names of transforms, from `transforms.parse`.
      journal: stores finished parts if they must survive an interruption.
      quiet: whether to hide the progress bar.
    """
    _say_what_is_equivalent(networks[0], names)
    settings = run.settings
    repeats = sum(transforms.repetitions(name, settings.shuffles) for name in names)
    cells = []
    total = settings.images * repeats * len(networks) * len(kinds(run.data, settings))
    shown = False if quiet else None
    with ProgressBar(total, "measuring", "image", compiles=True, shown=shown) as bar:
        for kind, inputs in run.perturbations():
            for network in networks:
                keep = _keeper(journal, f"{kind.label} seed {network.seed} {network.stage}")
                found = _under_transforms(run, network, names, inputs, keep, bar)
                cell = of_network(found, label=f"seed {network.seed}, {network.stage}")
                beside = run.beside(network, found)
                cells.append(grid.at(cell.assign(beside), network, kind.coordinates))
    whole = grid.with_depths(grid.combined(cells), run.depths)
    return run.completed(networks, whole)


def _say_what_is_equivalent(network: NetworkAtStage, names: Sequence[str]) -> None:
    """Prints which transforms are equivalent for a network without batch normalization."""
    for name in names:
        same = transforms.equivalent(name, network.variables)
        if same != name and distributed.is_first():
            say(
                f"{name}: the network has no batch normalization, so there are no statistics to "
                f"take; its numbers are those of {same}"
            )


Keep = Callable[[str, Callable[[], Moments]], Moments]


def _keeper(journal: Journal | None, label: str) -> Keep:
    """Computes moments once; a label starts the names of a network's parts."""

    def keep(name: str, compute: Callable[[], Moments]) -> Moments:
        return journal.keep(f"{label} {name}", compute) if journal else compute()

    return keep


def _under_transforms(
    run: Run,
    network: NetworkAtStage,
    names: Sequence[str],
    inputs: Inputs,
    keep: Keep,
    bar: ProgressBar,
) -> dict[str, list[Moments]]:
    """The moments of one network under every transform, a list over shuffles."""
    settings = run.settings
    found: dict[str, list[Moments]] = {}

    def after_batch(images: int) -> None:
        """Shows progress; joined processes also agree here whether to end."""
        bar.update(images)
        distributed.end_if_asked(f"after {bar.n} of {bar.total} images")

    def measured(name: str, number: int) -> Moments:
        def compute() -> Moments:
            key = run.transform_key(network.seed, number)
            original = found.get(transforms.NONE, [None])[0]
            return run.moments(network, name, key, inputs, on_batch=after_batch, original=original)

        return keep(f"{name} {number}", compute)

    for name in names:
        same = transforms.equivalent(name, network.variables, untrained=network.untrained)
        count = transforms.repetitions(name, settings.shuffles)
        done = found.get(same, [])
        for number in range(len(done), count):
            before = bar.n
            done = [*done, measured(same, number)]
            bar.found(before + settings.images - bar.n)  # finished by an earlier start
        if same in found:
            bar.found(settings.images * count)
        found[same] = found[name] = done
    return {name: found[name] for name in names}


def of_network(found: ByTransform, *, label: str) -> xr.Dataset:
    """D, G, R with errors over (transform, shuffle, layer) of one network; prints dead layers.

    Args:
      found: its moments under every transform; shuffles that a transform lacks become NaN.
      label: name of the network, for messages.
    """
    parts = {}
    for name, shuffles in found.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            values = [list(sensitivities(moments).values()) for moments in shuffles]
        _say_once(f"{label}, {name}", caught)
        coordinates = {
            "shuffle": np.arange(len(shuffles)),
            "layer": list(shuffles[0]),
            "quantity": list(results.SENSITIVITIES),
        }
        parts[name] = xr.DataArray(np.array(values, np.float64), coordinates, coordinates)
    whole = xr.concat(parts.values(), "transform", join="outer")
    return whole.assign_coords(transform=list(parts)).to_dataset("quantity")


def _say_once(label: str, caught: Iterable[warnings.WarningMessage]) -> None:
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        if distributed.is_first():
            say(textwrap.shorten(f"{label}: {text}", 160, placeholder=" ..."))
