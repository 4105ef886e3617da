"""cnnpool: how do convolutional networks lose spatial information?

Train CNNs, measure every layer's sensitivities to small diffeomorphisms (D) and
to noise (G), and their ratio R = D / G, and compare them with the theory of
Tomasini, Petrini, Cagnetta and Wyart, "How deep convolutional neural networks
lose spatial information with training". Any network, in three lines:

    import cnnpool as cp

    data = cp.measure(cp.torch.features(module), images)
    data.cnnpool.plot()
    cp.save(data, "mine.nc")

Names are imported when they are first used, so that `import cnnpool` is fast. Every xarray dataset
has the accessor `data.cnnpool`, including datasets read with plain `xarray.open_dataset`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cnnpool import interrupts
from cnnpool.figures import registration

if TYPE_CHECKING:
    from cnnpool import equinox, flax, keras, onnx, torch
    from cnnpool.instruments.channels import (
        mean_channel_filters,
        shuffle_both_axes,
        shuffle_channels,
        shuffle_vectors,
    )
    from cnnpool.instruments.moments import image_moments
    from cnnpool.instruments.perturbation import perturb
    from cnnpool.instruments.pooling_budget import spatial_share
    from cnnpool.instruments.sensitivity import sensitivities, sensitivity
    from cnnpool.library.measuring import measure
    from cnnpool.library.opening import open
    from cnnpool.library.saving import load, save

__version__ = "0.1.0"
__all__ = [
    "equinox",
    "flax",
    "image_moments",
    "keras",
    "load",
    "mean_channel_filters",
    "measure",
    "onnx",
    "open",
    "perturb",
    "save",
    "sensitivities",
    "sensitivity",
    "shuffle_both_axes",
    "shuffle_channels",
    "shuffle_vectors",
    "spatial_share",
    "torch",
]

_HOMES = {
    "measure": "library.measuring",
    "open": "library.opening",
    "load": "library.saving",
    "save": "library.saving",
    "sensitivity": "instruments.sensitivity",
    "sensitivities": "instruments.sensitivity",
    "image_moments": "instruments.moments",
    "perturb": "instruments.perturbation",
    "shuffle_channels": "instruments.channels",
    "shuffle_both_axes": "instruments.channels",
    "shuffle_vectors": "instruments.channels",
    "mean_channel_filters": "instruments.channels",
    "spatial_share": "instruments.pooling_budget",
}
_MODULES = ("equinox", "flax", "keras", "onnx", "torch")


def __getattr__(name: str) -> Any:
    if name not in _MODULES and name not in _HOMES:
        raise AttributeError(f"module 'cnnpool' has no attribute {name!r}")
    from cnnpool import extras

    if name in _MODULES:
        with extras.needed(name):
            return importlib.import_module(f"cnnpool.{name}")
    with extras.needed():
        return getattr(importlib.import_module(f"cnnpool.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


interrupts.hook_in_commands()
registration.register()
