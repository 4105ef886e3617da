"""Filter spectra of all networks of a deep run, as labelled arrays."""

from collections.abc import Callable, Sequence
import math

from jaxtyping import Float
import numpy as np

from cnnpool.instruments import filter_spectrum
from cnnpool.instruments.filter_spectrum import Spectrum
from cnnpool.measuring import image_network
from cnnpool.training.image_step import Variables


def pytorch_power(shape: tuple[int, ...]) -> float:
    """gamma_l of a kernel (F, F, inputs, outputs) by PyTorch's default initialization."""
    return filter_spectrum.random_power(math.prod(shape[:-1]))


def torchvision_power(shape: tuple[int, ...]) -> float:
    """The same by that of torchvision's VGG, ResNet and EfficientNet; its AlexNet has the default.

    PyTorch counts the outputs of a depthwise kernel as all of its channels.
    """
    rows, columns, _, outputs = shape
    return filter_spectrum.he_power(rows * columns * outputs)


def spectra(
    networks: Sequence[Variables],
    units: Sequence[str],
    *,
    shape: tuple[int, ...],
    random_power: Callable[[tuple[int, ...]], float] = pytorch_power,
) -> dict[str, tuple]:
    """gamma_{k,l} of every convolution; NaN for other units, and beyond F^2 where filters differ.

    Args:
      networks: of all seeds at all stages, seed by seed.
      units: the names along the dimension `layer`.
      shape: numbers of seeds and of stages.
      random_power: gamma_l of random filters, from a kernel's shape.

    Returns:
      Variables and coordinates of a result file; none for networks without convolutions.
    """
    kernels = [image_network.kernels(variables) for variables in networks]
    if not kernels[0]:
        return {}
    found = [{unit: filter_spectrum.spectrum(k) for unit, k in one.items()} for one in kernels]
    modes = max(len(spectrum.power) for spectrum in found[0].values())
    nothing = np.full(modes, np.nan)

    def padded(values: Float[np.ndarray, " modes"]) -> np.ndarray:
        return np.concatenate([values, nothing[len(values) :]])

    def gather(
        value: Callable[[Spectrum], np.ndarray | float], filler: np.ndarray | float
    ) -> np.ndarray:
        cells = [[value(one[unit]) if unit in one else filler for unit in units] for one in found]
        array = np.array(cells, np.float64)
        return array.reshape(*shape, *array.shape[1:])

    by_layer = ("seed", "stage", "layer")
    random = [
        random_power(kernels[0][unit].shape) if unit in kernels[0] else math.nan for unit in units
    ]
    return {
        "frequency": ("frequency", np.arange(1, modes + 1)),
        "eigenvalue": (
            ("layer", "frequency"),
            gather(lambda s: padded(s.eigenvalues), nothing)[0, 0],
        ),
        "gamma": ((*by_layer, "frequency"), gather(lambda s: padded(s.power), nothing)),
        "gamma_se": ((*by_layer, "frequency"), gather(lambda s: padded(s.power_se), nothing)),
        "gamma_random": ("layer", np.array(random)),
        "filter_frequency": (by_layer, gather(lambda s: s.mean_frequency, math.nan)),
        "filter_frequency_se": (by_layer, gather(lambda s: s.mean_frequency_se, math.nan)),
    }
