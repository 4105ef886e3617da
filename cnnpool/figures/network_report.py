"""One self-contained HTML page about any networks.

    python -m cnnpool.figures report mine.nc other.nc --out report.html

Curves of D, G and R, which layer pools what, filter spectra where a file has them, dead layers,
warnings, and where each file comes from. (`cnnpool.figures.report` makes the page of the project's
own results.)
"""

import base64
from collections.abc import Mapping, Sequence
import contextlib
from html import escape
import io
import json
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
import matplotlib.style
from matplotlib.ticker import MaxNLocator
import numpy as np

from cnnpool.figures import (
    cells,
    depth,
    network_findings,
    network_labels,
    network_page,
    networks,
    spectra,
    style,
)
from cnnpool.figures.network_findings import SHUFFLE, Layer
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.files import results
from cnnpool.files.atomic_write import write_text

_PREFERRED: dict[str, Sequence[Any]] = {
    "stage": ("trained", "last"),
    "transform": ("none",),
    "delta": (1.0,),
    "cutoff": (3,),
    "noise": ("white",),
}
_NAMES_OF_QUANTITIES = {
    "D": "sensitivity to diffeomorphisms",
    "G": "sensitivity to noise",
    "R": "relative sensitivity, D / G",
}


class Reported(NamedTuple):
    """A network, and what its report says.

    Attributes:
      network: the network itself.
      label: its name in the report.
      place: stage, transform, displacement and so on that are shown.
      layers: its layers at that place.
      shuffled: whether it was measured with shuffled channels, too.
      warnings: in sentences.
    """

    network: MeasuredNetwork
    label: str
    place: dict[str, Any]
    layers: list[Layer]
    shuffled: bool
    warnings: list[str]


def write(files: Sequence[Path], out: Path, labels: Mapping[str, str] | None = None) -> str:
    """Writes the page; returns one line per network, and its warnings.

    Args:
      files: result files.
      out: the page.
      labels: the user's labels of networks, see `network_labels.labels`.

    Raises:
      FileNotFoundError, ResultsError: if a file is absent or no result file.
      ValueError: if a label is of no network.
    """
    given = networks.read(list(dict.fromkeys(files)))
    names = network_labels.labels(given, labels)
    found = [_reported(one, label) for one, label in zip(given, names, strict=True)]
    with matplotlib.style.context(style.RC, after_reset=True):  # type: ignore[arg-type]
        write_text(out, page(found))
    lines = []
    for one in found:
        lines.append(f"{one.label}: {one.network.source}")
        lines += [f"  {text}" for text in one.warnings]
    return "\n".join(lines)


def _reported(network: MeasuredNetwork, label: str) -> Reported:
    data = network.measured
    place = {
        str(dim): _preferred(str(dim), data[dim].values)
        for dim in data["R"].dims
        if dim not in ("seed", "shuffle", "layer")
    }
    cell = results.over_shuffles(data).sel(place)
    has_shuffle = place.get("transform") == "none" and SHUFFLE in data["transform"].values
    shuffled = None
    if has_shuffle:
        shuffled = results.over_shuffles(data).sel(place | {"transform": SHUFFLE})
    found = network_findings.of_layers(cell, shuffled)
    warnings = network_findings.warnings(network, found)
    return Reported(network, label, place, found, has_shuffle, warnings)


def _preferred(name: str, values: np.ndarray) -> Any:
    for wanted in _PREFERRED.get(name, ()):
        if wanted in values:
            return values[list(values).index(wanted)]
    return values[-1] if name == "stage" else values[0]


def page(found: Sequence[Reported]) -> str:
    """The page."""
    several = len(found) > 1
    title = f"D, G and R of {len(found)} networks" if several else f"D, G and R of {found[0].label}"
    return network_page.PAGE.substitute(
        title=escape(title),
        style=network_page.STYLE,
        overview="\n".join(_overview_row(one, n) for n, one in enumerate(found)),
        curves="\n".join(_curves(found)),
        sections="\n".join(_section(one, n) for n, one in enumerate(found)),
    )


def _overview_row(one: Reported, number: int) -> str:
    output = one.layers[-1]
    data = network_labels.data(one.network)
    return network_page.OVERVIEW_ROW.substitute(
        anchor=f"network{number}",
        label=escape(one.label),
        data=escape(style.data_label(data)) if data else "unknown",
        networks=_alive(one, output),
        images=network_findings.images(one.network) or "unknown",
        error=_test_error(one),
        R=_number(*output.values["R"]),
        share=_share(one),
        warnings=len(one.warnings) or "none",
    )


def _alive(one: Reported, layer: Layer) -> str:
    there = one.network.outline.sizes["seed"]
    return str(there) if layer.alive == there else f"{layer.alive} of {there}"


def _test_error(one: Reported) -> str:
    data = one.network.measured
    if "test_error" not in data:
        return "unknown"
    dims = {name: value for name, value in one.place.items() if name in data["test_error"].dims}
    values = data["test_error"].sel(dims).values
    return "unknown" if np.isnan(values).all() else f"{np.nanmean(values):.2%}"


def _share(one: Reported) -> str:
    data = one.network.measured
    if not one.shuffled:
        return "no shuffle measured"
    if "spatial_share" not in data:
        return "unknown"
    place = one.place | {"transform": SHUFFLE}
    dims = {name: value for name, value in place.items() if name in data["spatial_share"].dims}
    values = np.atleast_1d(data["spatial_share"].sel(dims).values)
    alive = values[np.isfinite(values)]
    if not alive.size:
        return f"R falls by under {results.LEAST_FALL:g} decades"
    if alive.size > 1:
        return f"{alive.mean():.0%} ± {alive.std(ddof=1) / np.sqrt(alive.size):.0%}"
    error = np.atleast_1d(data["spatial_share_se"].sel(dims).values)[np.isfinite(values)]
    return f"{alive[0]:.0%} ± {error[0]:.0%}"


def _curves(found: Sequence[Reported]) -> list[str]:
    """A picture of D, of G and of R of all networks, as they are and with shuffled channels."""
    given = [_at(one) for one in found]
    depths = {one.layers[-1].depth for one in found}
    transforms = {str(t) for one in given for t in one.outline["transform"].values}
    pictures = []
    for quantity, words in _NAMES_OF_QUANTITIES.items():
        options = depth.Options(
            color="network",
            style="transform" if len(transforms) > 1 else "",
            quantities=quantity,
            relative=len(depths) > 1,
        )
        drawn = depth.of_networks(given, options)
        figure = depth.draw(drawn, options, with_legend=False)
        pictures.append(
            network_page.figure(_image(figure, f"{quantity} against depth"), f"{quantity}: {words}")
        )
    return [f"<div>{_image(depth.legend(drawn), 'what the lines are')}</div>", *pictures]


def _at(one: Reported) -> MeasuredNetwork:
    """The network restricted to what is shown of it, under its label."""
    data = one.network.measured
    place = {name: [value] for name, value in one.place.items()}
    if one.shuffled:
        place["transform"] = [one.place["transform"], SHUFFLE]
    config = one.network.config | {"model": {"name": one.label}, "data": {}}
    return MeasuredNetwork(
        data.sel(place).assign_attrs(config=json.dumps(config)), one.network.source
    )


def _section(one: Reported, number: int) -> str:
    return network_page.SECTION.substitute(
        anchor=f"network{number}",
        label=escape(one.label),
        place=escape(_place(one)),
        warnings=network_page.warnings(one.warnings),
        pooling=network_page.figure(_image(_pooling(one), "what pools"), _POOLING)
        if len(one.layers) > 1
        else "",
        rows="\n".join(_layer_row(one, layer) for layer in one.layers),
        least=f"{network_findings.LEAST_FALL:g}",
        spectra=_spectra(one),
        provenance=_provenance(one.network),
    )


_POOLING = (
    "By how many decades each layer lowers R (above zero: it pools). What is left when channels "
    "are shuffled is spatial pooling; the rest is pooled by the interaction of channels."
)


def _place(one: Reported) -> str:
    units = {"delta": "displacement {:g} pixels", "cutoff": "cut-off {:g}"}
    words = [
        units[name].format(value) if name in units else cells.word(name, value)
        for name, value in one.place.items()
    ]
    others = []
    for name, value in one.place.items():
        more = [str(v) for v in one.network.outline[name].values if v != value]
        if more:
            others.append(f"{name} {', '.join(more)}")
    also = f". The file also has {'; '.join(others)}" if others else ""
    return f"Shown: {', '.join(map(str, words))}{also}."


def _layer_row(one: Reported, layer: Layer) -> str:
    channel = layer.fall - layer.spatial
    return network_page.LAYER_ROW.substitute(
        k=f"{layer.depth:g}",
        name=escape(layer.name),
        networks=_alive(one, layer),
        **{quantity: _number(*values) for quantity, values in layer.values.items()},
        fall=_decades(layer.fall),
        spatial=_decades(layer.spatial),
        channel=_decades(channel),
        verdict=layer.verdict,
    )


def _number(mean: float, error: float) -> str:
    if not np.isfinite(mean):
        return "undefined"
    return f"{mean:.3g} ± {error:.1g}" if np.isfinite(error) else f"{mean:.3g}"


def _decades(value: float) -> str:
    return f"{value:+.2f}" if np.isfinite(value) else ""


def _pooling(one: Reported) -> Figure:
    figure = Figure(figsize=(5.2, 2.6), layout="constrained")
    axes = figure.subplots()
    shown = one.layers[1:]
    k = np.array([layer.depth for layer in shown])
    fall = np.array([layer.fall for layer in shown])
    if one.shuffled:
        spatial = np.array([layer.spatial for layer in shown])
        axes.bar(k - 0.2, spatial, 0.4, color=style.BLUE, label="spatial")
        axes.bar(k + 0.2, fall - spatial, 0.4, color=style.VERMILION, label="channels")
    spread = np.array([layer.spread for layer in shown])
    axes.errorbar(
        *(k, fall, spread),
        color="black",
        marker="o",
        markersize=3,
        linestyle="none",
        capsize=2,
        label="fall of log$_{10}$ R",
    )
    axes.axhline(0, **style.REFERENCE)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("depth $k$")
    axes.set_ylabel("decades")
    figure.legend(loc="outside right upper")
    return figure


def _spectra(one: Reported) -> str:
    data = one.network.measured
    if not set(spectra.VARIABLES) <= set(data.variables):
        return ""
    series = spectra.of_network(one.network)
    if not series:
        return ""
    picture = _image(spectra.draw(series), "filter spectra", wide=True)
    return (
        "<h3>Filter spectra</h3>"
        f'<figure><div class="scroll">{picture}</div>'
        "<figcaption>Mean squared projection of the filters of every convolution on the "
        "frequencies of its grid. Filters that pool have most in the lowest.</figcaption></figure>"
    )


def _image(figure: Figure, title: str, *, wide: bool = False) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg", bbox_inches="tight", metadata={"Date": None})
    encoded = base64.b64encode(content.getvalue()).decode()
    kind = ' class="wide"' if wide else ""
    return f'<img{kind} src="data:image/svg+xml;base64,{encoded}" alt="{escape(title)}">'


def _provenance(network: MeasuredNetwork) -> str:
    attributes = network.outline.attrs
    data = network.outline
    rows = {
        "file": network.source,
        "images": attributes.get("data_source", "unknown"),
        "measured by": _versions(attributes.get("versions", "")),
        "commit": attributes.get("commit", "unknown"),
        "machine": attributes.get("host_platform", "unknown"),
        "schema": attributes.get("schema_version", "unknown"),
        "stages": ", ".join(map(str, data["stage"].values)),
        "transforms": ", ".join(map(str, data["transform"].values)),
        "seeds": ", ".join(map(str, data["seed"].values)),
    }
    for name in ("config", "measurement", "trained_by", "environment"):
        if name in attributes:
            rows[name] = _details(name, str(attributes[name]))
    return "\n".join(
        network_page.PROVENANCE_ROW.substitute(
            what=escape(what),
            value=value if value.startswith("<details>") else escape(str(value)),
        )
        for what, value in ((what, str(value)) for what, value in rows.items())
    )


def _versions(text: str) -> str:
    try:
        found = json.loads(text)
        return ", ".join(f"{name} {version}" for name, version in found.items())
    except (ValueError, AttributeError):
        return text or "unknown"


def _details(name: str, text: str) -> str:
    with contextlib.suppress(ValueError):
        text = json.dumps(json.loads(text), indent=2, sort_keys=True)
    return f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"
