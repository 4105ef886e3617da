"""Figure 3: filter spectra gamma_{k,l} of VGG11 and VGG11-bn, before and after training.

The paper's: both networks on CIFAR-10 (first row), ImageNet (second) and scale detection (third),
projections on the 9 eigenvectors of the 3 x 3 grid's Laplacian, depth from left to right. Filters
of layers 2 to 6 become low-frequency on CIFAR-10; on scale detection the constant component of
layers 1 to 7 outgrows the others: filters that pool.

Ours: a row a network and data set, of those that are given.
"""

from collections.abc import Sequence

from cnnpool.figures import networks as measured
from cnnpool.figures import spectra
from cnnpool.figures.networks import Network
from cnnpool.figures.series import Series

ITEM = "Figure 3"
MODELS = ("vgg11", "vgg11_bn")


def series(networks: Sequence[Network]) -> list[Series]:
    """The spectra of the figure.

    Raises:
      ValueError: if neither network is there, or one lacks a stage or its spectra.
    """
    chosen = measured.choose(
        networks,
        lambda one: one.model in MODELS and one.image_noise == 0,
        item=ITEM,
        needs="vgg11 or vgg11_bn, without noise in the training set",
    )
    return spectra.series(chosen, item=ITEM)


draw = spectra.draw
