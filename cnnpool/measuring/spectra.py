"""Filter spectra of all networks of a run, as labelled arrays."""

from collections.abc import Callable, Sequence
import math

import numpy as np
import xarray as xr

from cnnpool.instruments import filter_spectrum
from cnnpool.measuring import grid, network
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.models import torchvision
from cnnpool.training.variables import Variables


def pytorch_power(shape: tuple[int, ...]) -> float:
    """gamma_l of a kernel (F, F, inputs, outputs) by PyTorch's default initialization."""
    return filter_spectrum.random_power(math.prod(shape[:-1]))


def torchvision_power(shape: tuple[int, ...]) -> float:
    """gamma_l by the initialization of torchvision's VGG, ResNet and EfficientNet.

    torchvision's AlexNet has PyTorch's default. PyTorch counts all channels of a depthwise kernel
    as its outputs.
    """
    rows, columns, _, outputs = shape
    return filter_spectrum.he_power(rows * columns * outputs)


def random_power_of(model: str) -> Callable[[tuple[int, ...]], float]:
    """gamma_l at initialization of the named network, as a function of a kernel's shape."""
    begins_as_default = model == f"{torchvision.PREFIX}alexnet"
    of_torchvision = model.startswith(torchvision.PREFIX) and not begins_as_default
    return torchvision_power if of_torchvision else pytorch_power


def spectra(
    networks: Sequence[NetworkAtStage],
    layers: Sequence[str],
    *,
    random_power: Callable[[tuple[int, ...]], float] = pytorch_power,
) -> xr.Dataset:
    """gamma_{k,l} of every convolution; NaN for other units, and beyond F^2 if filter sizes differ.

    Args:
      networks: networks of all seeds at all stages.
      layers: the names along the dimension `layer`.
      random_power: kernel shape -> gamma_l of random filters.

    Returns:
      Variables and coordinates of a result file; none for networks without convolutions.
    """
    kernels = network.kernels(networks[0].variables)
    if not kernels:
        return xr.Dataset()
    found = [grid.at(_of_network(one.variables), one, {}) for one in networks]
    whole = grid.combined(found).reindex(layer=list(layers))
    random = xr.DataArray(
        [random_power(one.shape) for one in kernels.values()], {"layer": list(kernels)}, "layer"
    )
    first = whole["eigenvalue"].isel(seed=0, stage=0, drop=True)
    return whole.assign(eigenvalue=first, gamma_random=random)


def _of_network(variables: Variables) -> xr.Dataset:
    """Its spectra over (layer, frequency), and mean frequencies over layer."""
    found = {
        unit: filter_spectrum.spectrum(kernel)
        for unit, kernel in network.kernels(variables).items()
    }
    parts = [
        xr.Dataset(
            {
                "eigenvalue": ("frequency", one.eigenvalues),
                "gamma": ("frequency", one.power),
                "gamma_se": ("frequency", one.power_se),
                "filter_frequency": one.mean_frequency,
                "filter_frequency_se": one.mean_frequency_se,
            },
            {"frequency": np.arange(1, len(one.power) + 1)},
        )
        for one in found.values()
    ]
    return xr.concat(parts, "layer", join="outer").assign_coords(layer=list(found))
