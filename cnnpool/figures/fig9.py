"""Figure 9: filter spectra gamma_{k,l} of deep VGGs on ImageNet.

The paper's: as Figure 3, of the deeper VGGs of torchvision.

Ours: VGG13, 16 and 19, with and without batch norm, that cnnpool.import_weights made, a row each.
Of the weights that they started from nothing is known but the rule: the horizontal line is its
expectation, the dotted line, where it was measured, weights drawn anew by it.
"""

from collections.abc import Sequence

from cnnpool.figures import networks as measured
from cnnpool.figures import spectra, style
from cnnpool.figures.fig3 import MODELS
from cnnpool.figures.networks import Network
from cnnpool.figures.series import Series

ITEM = "Figure 9"


def series(networks: Sequence[Network]) -> list[Series]:
    """The spectra of the figure.

    Raises:
      ValueError: if there is no such network, or one lacks its spectra.
    """
    chosen = measured.choose(
        networks,
        lambda one: (
            one.is_imported
            and style.network(one.model).family == style.VGG
            and one.model not in MODELS
        ),
        item=ITEM,
        needs="VGG13, VGG16 or VGG19 of torchvision (cnnpool.import_weights)",
    )
    return spectra.series(chosen, item=ITEM)


draw = spectra.draw
