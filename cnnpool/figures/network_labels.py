"""The names of networks in figures of any result files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from cnnpool.errors import check_known
from cnnpool.figures import style
from cnnpool.figures.networks import MeasuredNetwork


def labels(networks: Sequence[MeasuredNetwork], own: Mapping[str, str] | None = None) -> list[str]:
    """One label per network, all different.

    A network is called by its model's name, with the data set where there are several, and with
    its file's name, or its group in it, where two networks would have the same name.

    Args:
      networks: the networks of a figure.
      own: {name: label}; a name is a file's, with or without its folder, or a group's in a file.

    Raises:
      ValueError: if a name is no network's, or that of several.
    """
    given = _own(networks, own or {})
    several_data = len({data(one) for one in networks}) > 1
    plain = [given.get(n) or _plain(one, several_data) for n, one in enumerate(networks)]
    shared = {label for label, count in Counter(plain).items() if count > 1}
    places = _places(networks)
    return [f"{label} ({places[n]})" if label in shared else label for n, label in enumerate(plain)]


def data(network: MeasuredNetwork) -> str:
    """The data set's name in the config; "" where it says none."""
    return str(network.config.get("data", {}).get("name", ""))


def model(network: MeasuredNetwork) -> str:
    """The model's name in the config; the file's where it says none."""
    name = network.config.get("model", {}).get("name")
    return str(name) if name else _stem(network)


def _plain(network: MeasuredNetwork, several_data: bool) -> str:
    if "name" not in network.config.get("model", {}):
        return _stem(network)
    variant = network.variant if data(network) else ""
    where = style.data_label(data(network)) if several_data and data(network) else ""
    name = style.network(network.model).label
    return ", ".join(part for part in (name, variant, where) if part)


def _stem(network: MeasuredNetwork) -> str:
    if network.group != "/":
        return network.group
    return network.source if network.file is None else network.file.stem


def _places(networks: Sequence[MeasuredNetwork]) -> list[str]:
    """File and group of each network, with as much of the files' paths as distinguishes them."""
    files = list(dict.fromkeys(one.file for one in networks if one.file is not None))
    names = dict(zip(files, _short(files), strict=True))
    return [one.source if one.file is None else _place(one, names) for one in networks]


def _place(one: MeasuredNetwork, names: Mapping[Path, str]) -> str:
    assert one.file is not None
    if one.group == "/":
        return names[one.file]
    return one.group if len(names) == 1 else f"{names[one.file]}:{one.group}"


def _short(files: Sequence[Path]) -> list[str]:
    longest = max((len(path.parts) for path in files), default=1)
    for count in range(1, longest):
        names = ["/".join(path.parts[-count:]) for path in files]
        if len(set(names)) == len(files):
            return names
    return list(map(str, files))


def _own(networks: Sequence[MeasuredNetwork], own: Mapping[str, str]) -> dict[int, str]:
    """{place: label} of the networks that have one of their own."""
    names: dict[str, set[int]] = {}
    for place, one in enumerate(networks):
        group = [one.group] if one.group != "/" else []
        files = [] if one.file is None else [str(one.file), one.file.name, one.file.stem]
        for name in [*files, *group, *(f"{file}:{one.group}" for file in files if group)]:
            names.setdefault(name, set()).add(place)
    found = {}
    for name, label in own.items():
        check_known(name, names, "what has a label")
        if len(names[name]) > 1:
            shared = ", ".join(networks[place].source for place in sorted(names[name]))
            raise ValueError(
                f"the label {label!r} is of {name}, and so are called {shared}: give the file with "
                "its folder, or FILE:GROUP"
            )
        found[min(names[name])] = label
    return found
