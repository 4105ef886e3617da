"""Measured networks as figures see them: which network, on what data, what is missing."""

from collections.abc import Callable, Iterable, Sequence
import contextlib
import dataclasses
import functools
from functools import cached_property
import json
from pathlib import Path

import numpy as np
import xarray as xr

from cnnpool.figures import style
from cnnpool.figures.seed_average import Average
from cnnpool.figures.series import Series, of_averages
from cnnpool.files import results

SCALE_DETECTION = "scale2d"
IMPORTED = "torchvision_"  # as the names of such models begin in a config
WHITE = "white"
NOMINAL = {"delta": 1.0, "cutoff": 3.0}  # pixels; cut-off c (docs/protocol.md, Diffeomorphisms)


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredNetwork:
    """All seeds of one network on one data set.

    Attributes:
      outline: the dataset of one run; attributes and coordinates suffice where `load` is given.
      source: where it comes from, for messages.
      load: function that reads the whole dataset when it is needed; None: `outline` is whole.
      file: the file that it was read from; None for a dataset in memory.
      group: its group in the file; "/" where the file holds this network alone.
    """

    outline: xr.Dataset
    source: str
    load: Callable[[], xr.Dataset] | None = None
    file: Path | None = None
    group: str = "/"

    @cached_property
    def measured(self) -> xr.Dataset:
        """Every shuffle and kind of noise (see `cnnpool.files.results`)."""
        return self.load() if self.load else self.outline

    @cached_property
    def dataset(self) -> xr.Dataset:
        """The measurement under white noise, with D, G, R averaged over shuffles as logarithms."""
        return self._under_noise(WHITE)

    def _under_noise(self, kind: str) -> xr.Dataset:
        if kind not in self.noises:
            raise ValueError(f"{self.source} has noise {', '.join(self.noises)}, not {kind}")
        kinds = "noise" in self.measured.dims
        return results.over_shuffles(self.measured.sel(noise=kind) if kinds else self.measured)

    @property
    def noises(self) -> list[str]:
        """The kinds of noise that it was measured under."""
        if "noise" not in self.outline.dims:
            return [WHITE]
        return [str(kind) for kind in self.outline["noise"].values]

    @cached_property
    def config(self) -> dict:
        """The run's config; raises ResultsError if it cannot be read."""
        text = self.outline.attrs["config"]
        with contextlib.suppress(ValueError, TypeError):
            found = json.loads(text)
            if isinstance(found, dict):
                return found
        raise results.ResultsError(
            f"{self.source}: expected the attribute config to be a JSON object, got {text!r:.80}"
        )

    def _section(self, name: str) -> dict:
        """A section of the config; empty if it has none, as a user's own file may."""
        return self.config.get(name, {})

    @property
    def model(self) -> str:
        """The network's name, the same for torchvision's definition and for small images."""
        return self._section("model").get("name", "").removeprefix(IMPORTED)

    @property
    def is_imported(self) -> bool:
        """Whether somebody else trained it."""
        return self._section("model").get("name", "").startswith(IMPORTED)

    @property
    def epochs(self) -> int | None:
        """How many epochs it was trained for, by its config; None for an imported network."""
        return self.config["training"]["epochs"] if "training" in self.config else None

    @property
    def data(self) -> str:
        """The data set's name in the config."""
        return self._section("data").get("name", "")

    @property
    def is_classifier(self) -> bool:
        """Whether this is an image classifier, not a simple CNN on the ring as in Figure 4."""
        return self.data != "scale1d"

    @property
    def image_noise(self) -> float:
        """s, norm of the noise on every image of the training set; 0 for data without."""
        data = self._section("data")
        return float(data["image_noise"]) if "image_noise" in data else 0.0

    @property
    def measured_under_noise(self) -> bool:
        """Whether the images of the measurement had the noise of the training set."""
        return self.image_noise > 0 and self._settings.get("image_noise", True)

    @property
    def shuffles(self) -> int:
        """How many random channel shuffles of each network were measured."""
        return self._settings.get("shuffles", 1)

    @property
    def has_batch_norm(self) -> bool:
        """Whether it has batch normalization, so that statistics matter."""
        return any("bn" in str(unit) for unit in self.outline["layer"].values)

    @property
    def _settings(self) -> dict:
        return json.loads(self.outline.attrs["measurement"]).get("settings", {})

    @property
    def variant(self) -> str:
        """How the network differs from the plain one of its name."""
        model = self._section("model")
        narrow = "width_factor" in model and model["width_factor"] != 1
        parts = [f"width {model['width_factor']:g}"] if narrow else []
        parts += [f"noise {self.image_noise:g}"] if self.image_noise else []
        return ", ".join(parts)

    @property
    def identity(self) -> tuple[str, str, str]:
        """What identifies its series."""
        return self.model, self.variant, self.data

    @property
    def title(self) -> str:
        """Network and data set in words."""
        variant = f", {self.variant}" if self.variant else ""
        return f"{style.network(self.model).label}{variant}, {style.data_label(self.data)}"

    @property
    def has_displacements(self) -> bool:
        """Whether D, G, R were measured at several displacements and cut-offs."""
        return "delta" in self.outline.dims

    def at_nominal(self, noise: str = WHITE) -> xr.Dataset:
        """The dataset at the displacement and cut-off that figures use, where it has several.

        Args:
          noise: the kind of noise.

        Raises:
          ValueError: if it was not measured under that.
        """
        dataset = self.dataset if noise == WHITE else self._under_noise(noise)
        return dataset.sel(NOMINAL) if self.has_displacements else dataset

    def series(
        self,
        panel: tuple[str, str],
        curve: str,
        *,
        x: Average | np.ndarray,
        y: Average | np.ndarray,
        points: Iterable[object] = (),
    ) -> Series:
        """A curve of this network; for the arguments see `of_averages`."""
        return of_averages(
            panel,
            curve,
            self.identity,
            x=x,
            y=y,
            points=points,
            epochs=self.epochs,
            source=self.source,
        )

    def has(self, stage: str, transform: str) -> bool:
        """Whether a curve was measured."""
        return stage in self.outline["stage"] and transform in self.outline["transform"]


def on_plain_images(network: MeasuredNetwork) -> bool:
    """Whether a network was trained on natural images without noise."""
    return network.data != SCALE_DETECTION and network.image_noise == 0


def read(files: Sequence[Path]) -> list[MeasuredNetwork]:
    """All networks of result files; the numbers of each are read once they are needed.

    Raises:
      FileNotFoundError: if a file is not there.
      cnnpool.files.results.ResultsError: if a file is no result file, or holds no D, G, R.
    """
    return [network for path in files for network in _read(path)]


def _read(path: Path) -> list[MeasuredNetwork]:
    outlines = results.read_outlines(path)
    whole = functools.cache(lambda: results.read_networks(path))
    if not outlines:
        return [
            MeasuredNetwork(one, _source(path, name), None, path, name)
            for name, one in whole().items()
        ]
    return [
        MeasuredNetwork(
            one, _source(path, name), functools.partial(_one_of, whole, name), path, name
        )
        for name, one in outlines.items()
    ]


def _one_of(whole: Callable[[], dict[str, xr.Dataset]], name: str) -> xr.Dataset:
    return whole()[name]


def _source(path: Path, name: str) -> str:
    return str(path) if name == "/" else f"{path}, network {name}"


def in_order(networks: Sequence[MeasuredNetwork]) -> list[MeasuredNetwork]:
    """Sorts networks by data set and family, as the paper does."""
    return sorted(
        networks,
        key=lambda one: (
            style.data_order(one.data),
            style.network_order(one.model),
            one.image_noise,
            one.title,
        ),
    )


def choose(
    networks: Sequence[MeasuredNetwork],
    wanted: Callable[[MeasuredNetwork], bool],
    *,
    item: str,
    needs: str,
) -> list[MeasuredNetwork]:
    """The networks that a figure shows.

    Args:
      networks: all that were given.
      wanted: whether a figure shows one.
      item: "Figure 2".
      needs: which networks these are, in words.

    Returns:
      Those that are wanted, in the order of the paper.

    Raises:
      ValueError: if there is none, or one is there twice.
    """
    chosen = [network for network in networks if network.is_classifier and wanted(network)]
    if not chosen:
        given = "; ".join(f"{one.title} ({one.source})" for one in networks)
        raise ValueError(f"{item} needs result files of {needs}; got {given or 'none'}")
    by_title: dict[str, list[MeasuredNetwork]] = {}
    for network in chosen:
        by_title.setdefault(network.title, []).append(network)
    twice = {title: found for title, found in by_title.items() if len(found) > 1}
    if twice:
        lines = [
            f"{title}: {', '.join(one.source for one in found)}" for title, found in twice.items()
        ]
        raise ValueError(
            f"{item} shows each network once; give one file per run, with all its stages and "
            "transforms measured by one call of cnnpool.eval. Leave out all but one of\n  "
            + "\n  ".join(lines)
        )
    return in_order(chosen)


def require(
    networks: Sequence[MeasuredNetwork],
    *,
    item: str,
    stages: Sequence[str],
    transforms: Sequence[str] = ("none",),
    variables: Sequence[str] = (),
    at_nominal: bool = True,
) -> None:
    """Refuses networks that lack something, naming all that is missing and the cure.

    Args:
      networks: of a figure.
      item: "Figure 2".
      stages: needed.
      transforms: needed at these stages.
      variables: names of the variables needed besides D, G, R.
      at_nominal: whether they are shown at the nominal displacement and cut-off.

    Raises:
      ValueError: saying what is missing of which network, and the command that measures it.
    """
    lines = []
    for network in networks:
        missing = _missing(network.dataset, "stage", stages)
        missing += _missing(network.dataset, "transform", transforms)
        missing += [f"variable {name}" for name in variables if name not in network.dataset]
        if at_nominal and network.has_displacements:
            for name, value in NOMINAL.items():
                missing += _missing(network.dataset, name, [value])
        if missing:
            lines.append(f"{network.title} ({network.source}) lacks {', '.join(missing)}")
    if lines:
        raise ValueError(
            f"{item}: {'; '.join(lines)}. Measure with `{command(stages, transforms)}`"
        )


def command(stages: Sequence[str], transforms: Sequence[str], *flags: str) -> str:
    """The command that measures a run at these stages and with these transforms."""
    given = [f"--stage={','.join(stages)}", f"--transforms={','.join(transforms)}", *flags]
    return f"python -m cnnpool.eval --workdir=RUN {' '.join(given)} --out=FILE"


def _missing(dataset: xr.Dataset, dimension: str, wanted: Sequence) -> list[str]:
    there = dataset[dimension].values
    return [
        f"{dimension} {value} (it has {', '.join(map(str, there))})"
        for value in wanted
        if value not in there
    ]
