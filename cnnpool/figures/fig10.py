"""Figure 10: filter spectra gamma_{k,l} of AlexNet, before and after training.

The paper's: AlexNet on CIFAR-10 (first row), ImageNet (second) and scale detection (third), drawn
as Figure 3.

Ours: AlexNet on what data is given, and LeNet too, which the paper does not show; its filters are
5 x 5 and have 25 frequencies.
"""

from collections.abc import Sequence

from cnnpool.figures import networks as measured
from cnnpool.figures import spectra
from cnnpool.figures.networks import Network
from cnnpool.figures.series import Series

ITEM = "Figure 10"
MODELS = ("lenet", "alexnet")


def series(networks: Sequence[Network]) -> list[Series]:
    """The spectra of the figure.

    Raises:
      ValueError: if neither network is there, or one lacks a stage or its spectra.
    """
    chosen = measured.choose(
        networks,
        lambda one: one.model in MODELS and one.image_noise == 0,
        item=ITEM,
        needs="alexnet or lenet, without noise in the training set",
    )
    return spectra.series(chosen, item=ITEM)


draw = spectra.draw
