"""Figures 2, 3, 7, 9 and 10: two kinds of picture, and which networks each figure shows.

Figures 2 and 7 are curves of R_k against depth (`depth_curves`), Figures 3, 9 and 10 spectra of
filters (`spectra`). A figure is a row of `ROWS`; `prose` describes the paper's figure and ours.
"""

from collections.abc import Callable, Sequence
import dataclasses

from matplotlib.figure import Figure

from cnnpool.figures import depth_curves, spectra, style
from cnnpool.figures import networks as measured
from cnnpool.figures.networks import MeasuredNetwork
from cnnpool.figures.series import Series


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure that selects from the networks it is given.

    Attributes:
      item: "Figure 2".
      prose: what the paper's figure shows, and ours.
      needs: the networks that it shows, in words, for messages.
      shows: whether it shows a network.
      series_of: the curves of the networks that it shows; takes `item` for messages.
      draw: the picture of the curves.
    """

    item: str
    prose: str
    needs: str
    shows: Callable[[MeasuredNetwork], bool]
    series_of: Callable[..., list[Series]]
    draw: Callable[[Sequence[Series]], Figure]

    def series(self, networks: Sequence[MeasuredNetwork]) -> list[Series]:
        """The curves of the figure.

        Raises:
          ValueError: if the figure shows none of the networks, or a stage or a curve is missing.
        """
        chosen = measured.choose(networks, self.shows, item=self.item, needs=self.needs)
        return self.series_of(chosen, item=self.item)


_CURVES = (depth_curves.relative_sensitivity_series, depth_curves.draw_relative_sensitivity)
_SPECTRA = (spectra.series, spectra.draw)
_SHALLOW_VGGS = ("vgg11", "vgg11_bn")


def _family(network: MeasuredNetwork) -> str:
    return style.network(network.model).family


def _is_deep_imported_vgg(network: MeasuredNetwork) -> bool:
    deep_vgg = _family(network) == style.VGG and network.model not in _SHALLOW_VGGS
    return network.is_imported and deep_vgg


ROWS = {
    "fig2": Row(
        "Figure 2",
        """Relative sensitivity R_k against relative depth, VGG networks.

        The paper's: VGG11 and VGG11-bn on CIFAR-10 at the left, VGGs of torchvision on ImageNet at
        the right; full lines the trained networks, dashed ones the same with shuffled channels. R
        falls with depth, less so without the interaction of channels: both kinds of pooling are
        there.

        Ours: whatever VGG networks on natural images are given, one panel for each data set that
        has a file. Networks at initialization are added in grey where they were measured.
        """,
        "VGG networks on CIFAR-10 or ImageNet, without noise in the training set",
        lambda one: measured.on_plain_images(one) and _family(one) == style.VGG,
        *_CURVES,
    ),
    "fig3": Row(
        "Figure 3",
        """Filter spectra gamma_{k,l} of VGG11 and VGG11-bn, before and after training.

        The paper's: both networks on CIFAR-10 (first row), ImageNet (second) and scale detection
        (third), projections on the 9 eigenvectors of the 3 x 3 grid's Laplacian, depth from left to
        right. Filters of layers 2 to 6 become low-frequency on CIFAR-10; on scale detection the
        constant component of layers 1 to 7 outgrows the others: filters that pool.

        Ours: one row for each network and data set that is given.
        """,
        "vgg11 or vgg11_bn, without noise in the training set",
        lambda one: one.model in _SHALLOW_VGGS and one.image_noise == 0,
        *_SPECTRA,
    ),
    "fig7": Row(
        "Figure 7",
        """Relative sensitivity R_k against relative depth, networks other than VGGs.

        The paper's: LeNet and AlexNet on CIFAR-10 at the left, AlexNet of torchvision on ImageNet
        at the right; drawn as Figure 2.

        Ours: whatever convolutional networks but VGGs are given, on natural images: LeNet and
        AlexNet, and ResNets and EfficientNet too, which the paper does not show.
        """,
        "LeNet or AlexNet on CIFAR-10 or ImageNet, without noise in the training set",
        lambda one: (
            measured.on_plain_images(one) and _family(one) not in (style.VGG, style.FULLY_CONNECTED)
        ),
        *_CURVES,
    ),
    "fig9": Row(
        "Figure 9",
        """Filter spectra gamma_{k,l} of deep VGGs on ImageNet.

        The paper's: as Figure 3, of the deeper VGGs of torchvision.

        Ours: VGG13, 16 and 19, with and without batch norm, that cnnpool.import_weights made, one
        row each. Nothing is known of the weights that they started from but the rule: the
        horizontal line is its expectation, the dotted line, where it was measured, weights drawn
        anew by it.
        """,
        "VGG13, VGG16 or VGG19 of torchvision (cnnpool.import_weights)",
        _is_deep_imported_vgg,
        *_SPECTRA,
    ),
    "fig10": Row(
        "Figure 10",
        """Filter spectra gamma_{k,l} of AlexNet, before and after training.

        The paper's: AlexNet on CIFAR-10 (first row), ImageNet (second) and scale detection (third),
        drawn as Figure 3.

        Ours: AlexNet on whatever data is given, and LeNet too, which the paper does not show; its
        filters are 5 x 5 and have 25 frequencies.
        """,
        "alexnet or lenet, without noise in the training set",
        lambda one: one.model in ("lenet", "alexnet") and one.image_noise == 0,
        *_SPECTRA,
    ),
}
