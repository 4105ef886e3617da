"""The contents of any result files, curve by curve: one per network, stage, transform and so on.

A cell is the part of a dataset over seeds and layers that makes one curve. It is identified by
named properties: `network`, `file`, `model`, `data`; the dimensions of the file except `layer`; and
its other coordinates, including those added by `launch.collect`. Networks of several seeds, and
random shuffles, are averaged unless `seed` or `shuffle` is asked for.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
import dataclasses
import itertools
from typing import Any

import numpy as np
import xarray as xr

from cnnpool.errors import check_known
from cnnpool.figures import network_labels
from cnnpool.figures.networks import WHITE, MeasuredNetwork
from cnnpool.files import results

NETWORK = "network"
_OF_FILES = (NETWORK, "file", "model", "data")
_AVERAGED = ("seed", "shuffle")
_SHAPES = {"delta": "$\\delta$ = {}", "cutoff": "$c$ = {}"}
_TRANSFORMS = {  # as the paper's figures call them
    "none": "original",
    "channel_shuffle": "channels shuffled",
    "channel_shuffle_both": "both axes shuffled",
    "channel_shuffle_recalibrated": "shuffled, recalibrated",
    "own_statistics": "own statistics",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One curve's numbers.

    Attributes:
      network: the network that they belong to.
      data: the dataset over `seed` and `layer`, with its coordinates.
      place: {name: value} of everything that identifies it.
    """

    network: MeasuredNetwork
    data: xr.Dataset
    place: Mapping[str, Any]

    def words(self, names: Iterable[str]) -> str:
        """Its values for the given names, as text for a legend."""
        return ", ".join(word(name, self.place.get(name)) for name in names)


def word(name: str, value: Any) -> str:
    """A value as text for a legend."""
    if value is None or value != value:  # NaN: a data set's own perturbations
        return f"no {name}"
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if name == "transform":
        return _TRANSFORMS.get(text, text)
    if name == "noise":
        return f"{text} noise"
    own = name in _OF_FILES or not _is_number(value)
    return text if own else _SHAPES.get(name, name.replace("_", " ") + " {}").format(text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def names(networks: Sequence[MeasuredNetwork]) -> list[str]:
    """All names by which the cells of the given networks can be distinguished."""
    found = list(_OF_FILES)
    for network in networks:
        data = network.measured
        axes = _axes(data)
        found += axes
        found += [str(n) for n, c in data.variables.items() if _tells(c, axes) and n not in axes]
    return list(dict.fromkeys(found))


def _axes(data: xr.Dataset) -> list[str]:
    return [str(name) for name in data["R"].dims if name != "layer"]


def _tells(variable: xr.Variable, axes: Sequence[Hashable]) -> bool:
    """Whether a coordinate or variable has one value per cell."""
    return variable.ndim == 0 or (variable.ndim == 1 and variable.dims[0] in axes)


def cells(
    networks: Sequence[MeasuredNetwork],
    asked: Sequence[str] = (),
    *,
    labels: Mapping[str, str] | None = None,
    select: Mapping[str, Sequence[str]] | None = None,
) -> list[Cell]:
    """The curves of the given networks; those without any finite number are left out.

    Args:
      networks: the networks to show.
      asked: the names by which a figure distinguishes cells.
      labels: the user's labels of networks, see `network_labels.labels`.
      select: {name: values} of the cells that are wanted; a value that no cell has may be several,
        with commas between them.

    Raises:
      ValueError: if a name is none of `names`, or nothing is left.
    """
    wanted = dict(select or {})
    known = names(networks)
    for name in (*asked, *wanted):
        check_known(name, known, "what curves are told apart by")
    used = {*asked, *wanted}
    found = [
        cell
        for network, label in zip(networks, network_labels.labels(networks, labels), strict=True)
        for cell in _of_network(network, label, used)
    ]
    for name, given in wanted.items():
        there = list(dict.fromkeys(cell.place.get(name) for cell in found))
        values = [one for text in given for one in _single(text, there)]
        missing = [text for text in values if not any(_is(value, text) for value in there)]
        if missing:
            shown = ", ".join(str(value) for value in there)
            raise ValueError(f"no {name} is {', '.join(missing)}; there are {shown}")
        found = [cell for cell in found if any(_is(cell.place.get(name), t) for t in values)]
    if not found:
        raise ValueError("no network has a number that could be drawn: all D, G and R are NaN")
    return found


def _single(text: str, there: Sequence[Any]) -> list[str]:
    """A value as it is, which may contain commas, or else the values between its commas."""
    return [text] if any(_is(value, text) for value in there) else text.split(",")


def _is(value: Any, text: str) -> bool:
    if str(value) == text:
        return True
    try:
        return float(value) == float(text)
    except (TypeError, ValueError):
        return False


def _of_network(network: MeasuredNetwork, label: str, used: set[str]) -> Iterator[Cell]:
    data = network.measured
    if "shuffle" not in used:
        data = results.over_shuffles(data)
    axes = [name for name in _axes(data) if name not in _AVERAGED or name in used]
    extras = [n for n in used if n in data.variables and n not in axes]
    by_seed = [n for n in extras if data[n].dims == ("seed",) and "seed" not in axes]
    about = {
        NETWORK: label,
        "file": network.file.name if network.file is not None else "",
        "model": network_labels.model(network),
        "data": network_labels.data(network),
    }
    for values in itertools.product(*(data[name].values for name in axes)):
        place = dict(zip(axes, values, strict=True))
        cell = data.sel(place)
        cell = cell if "seed" in cell.dims else cell.expand_dims("seed")
        for part, of_seeds in _by_values(cell, by_seed):
            if any(np.isfinite(part[quantity].values).any() for quantity in "DGR"):
                rest = {n: part[n].values for n in extras if n not in by_seed}
                scalars = {n: value.item() for n, value in rest.items() if value.ndim == 0}
                own = {"noise": WHITE} | {n: _plain(value) for n, value in place.items()}
                yield Cell(network, part, about | own | scalars | of_seeds)


def _by_values(
    cell: xr.Dataset, names: Sequence[str]
) -> Iterator[tuple[xr.Dataset, dict[str, Any]]]:
    """The seeds of a cell, those together that have the same values of some coordinates."""
    if not names:
        yield cell, {}
        return
    rows = list(zip(*(cell[name].values.tolist() for name in names), strict=True))
    for row in dict.fromkeys(rows):
        seeds = [place for place, other in enumerate(rows) if other == row]
        yield cell.isel(seed=seeds), dict(zip(names, row, strict=True))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def telling(found: Sequence[Cell], given: Sequence[str]) -> list[str]:
    """Names to add to the given ones, so that no two cells have the same values.

    Args:
      found: the cells of a figure.
      given: the names that already distinguish them.
    """
    added: list[str] = []
    axes = dict.fromkeys(n for cell in found for n in cell.place if n not in _OF_FILES)
    for name in axes:  # those that tell cells of one network apart
        now = [*given, NETWORK, *added]
        if name not in given and _count(found, [*now, name]) > _count(found, now):
            added.append(name)
    unique = _count(found, [*given, *added]) == len(found)
    return added if unique else [NETWORK, *added]


def _count(found: Sequence[Cell], names: Sequence[str]) -> int:
    return len({tuple(str(cell.place.get(name)) for name in names) for cell in found})


def values(found: Sequence[Cell], names: Sequence[str]) -> list[str]:
    """What `Cell.words` says of some names, each once; by the first one where it is a number."""
    firsts: dict[str, Any] = {
        cell.words(names): cell.place.get(names[0]) if names else None for cell in found
    }
    if are_numbers(found, names):
        return sorted(firsts, key=firsts.__getitem__)
    return list(firsts)


def are_numbers(found: Sequence[Cell], names: Sequence[str]) -> bool:
    """Whether the first of some names is a number in every cell."""
    return bool(names) and all(_is_number(cell.place.get(names[0])) for cell in found)
