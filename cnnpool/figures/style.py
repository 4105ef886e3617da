"""The look that all figures share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
import matplotlib.style
from matplotlib.ticker import (
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)
import numpy as np

from cnnpool.files.atomic_write import write_atomically

Look = dict[str, Any]  # keywords of Axes.plot

INIT: Look = {"color": "0.55", "linestyle": "-", "marker": "o", "markersize": 3}
TRAINED: Look = {"color": "tab:blue", "linestyle": "-", "marker": "o", "markersize": 3}
TRAINED_DOTTED: Look = {"color": "tab:blue", "linestyle": ":", "marker": "s", "markersize": 3}
THEORY: Look = {"color": "black", "linestyle": "--", "linewidth": 1}
GUIDE: Look = {"color": "tab:red", "linestyle": "-", "linewidth": 0.7}
REFERENCE: Look = {"color": "0.3", "linestyle": "-", "linewidth": 0.6, "zorder": 0}
BAND_ALPHA = 0.25


class NetworkLook(NamedTuple):
    """How a network is called and drawn in every figure.

    Attributes:
      label: as the paper writes it.
      family: networks that share a row of panels.
      color: of Okabe and Ito's palette for the colour-blind, its yellow replaced by grey.
      marker: differs where colours repeat.
    """

    label: str
    family: str
    color: str
    marker: str


BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
GREY, BLUE, VERMILION, PURPLE = "#8C8C8C", "#0072B2", "#D55E00", "#CC79A7"
BROWN = "#8C564B"
SIMPLE, VGG, RESIDUAL = "AlexNet, LeNet", "VGG", "ResNet, EfficientNet"
FULLY_CONNECTED = "fully connected"

NETWORKS = {
    "alexnet": NetworkLook("AlexNet", SIMPLE, VERMILION, "h"),
    "lenet": NetworkLook("LeNet", SIMPLE, BLACK, "p"),
    "vgg11": NetworkLook("VGG11", VGG, BLUE, "o"),
    "vgg11_bn": NetworkLook("VGG11-bn", VGG, ORANGE, "s"),
    "vgg13": NetworkLook("VGG13", VGG, SKY, "^"),
    "vgg13_bn": NetworkLook("VGG13-bn", VGG, GREEN, "D"),
    "vgg16": NetworkLook("VGG16", VGG, BROWN, "v"),
    "vgg16_bn": NetworkLook("VGG16-bn", VGG, PURPLE, "P"),
    "vgg19": NetworkLook("VGG19", VGG, BLACK, "<"),
    "vgg19_bn": NetworkLook("VGG19-bn", VGG, VERMILION, "X"),
    "resnet18": NetworkLook("ResNet18", RESIDUAL, SKY, "d"),
    "resnet34": NetworkLook("ResNet34", RESIDUAL, BLUE, ">"),
    "resnet50": NetworkLook("ResNet50", RESIDUAL, BLACK, "8"),
    "efficientnet_b0": NetworkLook("EfficientNet-B0", RESIDUAL, GREEN, "*"),
    "fully_connected_2": NetworkLook("fully connected, 2", FULLY_CONNECTED, PURPLE, "<"),
    "fully_connected_4": NetworkLook("fully connected, 4", FULLY_CONNECTED, GREY, "H"),
    "fully_connected_6": NetworkLook("fully connected, 6", FULLY_CONNECTED, ORANGE, "X"),
}
DATA = {
    "cifar10": "CIFAR-10",
    "imagenet": "ImageNet",
    "image_folder": "pictures",
    "arrays": "own images",
    "scale2d": "scale detection",
}

RC: dict[str, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.dpi": 150,
    "font.size": 9,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
}


def plain_log_ticks(axis: Axis, digits: tuple[float, ...] = (2.0, 5.0)) -> None:
    """Labels a logarithmic axis at powers of ten and `digits` times these, without exponents."""
    for set_locator, set_formatter, labelled in (
        (axis.set_major_locator, axis.set_major_formatter, (1.0,)),
        (axis.set_minor_locator, axis.set_minor_formatter, digits),
    ):
        set_locator(LogLocator(subs=labelled))
        set_formatter(StrMethodFormatter("{x:g}"))


def readable_log_ticks(axis: Axis) -> None:
    """Labels a logarithmic axis by what it spans: decades, digits of decades, or round numbers."""
    low, high = axis.get_view_interval()
    decades = np.log10(high / low)
    if decades > 2:
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_major_formatter(LogFormatterSciNotation())
        axis.set_minor_formatter(NullFormatter())
    elif decades > 0.4:
        plain_log_ticks(axis, (2.0, 5.0) if decades > 1 else (2.0, 3.0, 5.0))
    else:
        axis.set_major_locator(MaxNLocator(3))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())


def network(name: str) -> NetworkLook:
    """The look of a network by the config's name; grey dots where it is not in the table."""
    return NETWORKS.get(name, NetworkLook(name, "other", GREY, "o"))


def network_order(name: str) -> int:
    """Place of a network in rows and legends."""
    return [*NETWORKS, name].index(name)


def data_label(name: str) -> str:
    """A data set as the paper writes it, by the config's name."""
    return DATA.get(name, name)


def data_order(name: str) -> int:
    """Place of a data set in rows and columns."""
    return [*DATA, name].index(name)


def sequence(count: int) -> list[tuple[float, float, float, float]]:
    """Colours from dark to light, for depths, noise levels and cut-offs."""
    return [mpl.colormaps["viridis"](place) for place in np.linspace(0, 0.85, count)]


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draws in the common style and writes PNG, PDF or SVG, by the path's ending.

    The user's matplotlibrc changes nothing: a figure looks the same wherever it is drawn.
    """
    with mpl.style.context(RC, after_reset=True):  # type: ignore[arg-type]
        figure = draw()
        write_atomically(path, lambda beside: figure.savefig(beside, bbox_inches="tight"))
