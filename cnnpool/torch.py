"""Measures PyTorch modules: `cnnpool.torch.features(module)`.

This is the only file of the package that imports PyTorch.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
import contextlib
import dataclasses
import fnmatch
import functools
import hashlib
import re
from typing import Any

from jax import Array
import numpy as np
import torch
from torch import nn

from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.streamed_moments import streamed_moments
from cnnpool.library.activations import Layers, chosen, flattened
from cnnpool.library.channel_shuffles import BOTH, SHUFFLE, WITH_IMAGE, Kernel, shuffled
from cnnpool.library.channel_shuffles import chosen as chosen_kernels
from cnnpool.library.measurable import NONE, Measurable
from cnnpool.shapes import Key

_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_TRANSPOSED = (nn.modules.conv._ConvTransposeNd,)


def features(module: nn.Module, layers: Layers = None) -> "Features":
    """Converts a PyTorch module to a function from images to named activations.

    Numpy images (n, rows, columns, channels) are passed to the module as a tensor
    (n, channels, rows, columns), on the device and in the precision of its parameters. Activations
    are returned as numpy arrays, channels last, in the order in which they are computed. The module
    runs in inference mode (`eval()`, `no_grad`); its previous mode is restored, and it is not
    changed. Its return value is ignored.

    Args:
      module: any module that takes one batch of images; of DataParallel, the module inside.
      layers: names in `module.named_modules()`, or patterns such as "layer1.*", or "*" for all
        modules without children; None: the outputs of all convolutions and linear layers, before
        their activation functions. A module that is called several times has one name per call:
        "act", "act:2"; outputs that are tuples or dicts have one name per element: "lstm/0".

    Raises:
      ValueError: if a name matches no module (with similar names as hints), there are no
        convolutions or linear layers, or parameters have no values.
      TypeError: if `module` is not a PyTorch module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(module).__name__}")
    while isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    _check_has_numbers(module)
    return _features(module, layers)


def _features(module: nn.Module, layers: Layers) -> "Features":
    names = tuple(_chosen_modules(module, layers))
    return Features(
        module,
        names,
        required=frozenset([layers] if isinstance(layers, str) else layers or ()).intersection(
            names
        ),
    )


def _chosen_modules(module: nn.Module, layers: Layers) -> list[str]:
    named = {name: one for name, one in module.named_modules() if name}
    leaves = [name for name, one in named.items() if not any(one.children())]
    if isinstance(layers, str):
        layers = [layers]
    if not named:
        return [""]  # the module is a single layer, which is named by its class
    if layers is None:
        found = [n for n, one in named.items() if isinstance(one, (*_CONVOLUTIONS, nn.Linear))]
        if not found:
            raise ValueError(
                "no named activations: the module has no convolution and no linear layer of "
                f"PyTorch; choose its layers, layers=[...], from {', '.join(leaves[:8])}"
            )
        return found
    patterns = [one for one in layers if one not in named]
    # A pattern refers to modules without children if it matches any, else to all modules.
    of_leaves = [one for one in patterns if fnmatch.filter(leaves, one)]
    others = [one for one in patterns if one not in of_leaves]
    matching = {*chosen(leaves, of_leaves), *chosen([*named], others)}
    return [name for name in named if name in layers or name in matching]


def _check_has_numbers(module: nn.Module) -> None:
    """Raises ValueError if parameters are on the device "meta" or on several devices."""
    places = {tensor.device for tensor in (*module.parameters(), *module.buffers())}
    if any(place.type == "meta" for place in places):
        raise ValueError(
            'the module is on the device "meta", where parameters have no values: load its weights '
            "first, module.to_empty(device='cpu') and module.load_state_dict(...)"
        )
    if any(place.type == "cuda" for place in places) and not torch.cuda.is_available():
        raise ValueError("the module is on a GPU, but there is none; move it with module.cpu()")
    if len(places) > 1:
        raise ValueError(
            f"expected the module on one device, got {', '.join(sorted(map(str, places)))}; move "
            "it with module.to(device)"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Features(Measurable):
    """A PyTorch network; see `features`.

    Attributes:
      module: the network.
      names: the names of the modules whose outputs are returned.
      required: the modules among them that must be called; otherwise, it is an error.
      state: parameters that replace the module's own, by name.
      overwritten: layers whose outputs are copied, because later layers change them in place.
      kernels: the convolutions in the order of their calls; set by `prepared`.
    """

    module: nn.Module
    names: tuple[str, ...]
    required: frozenset[str] = frozenset()
    state: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    overwritten: frozenset[str] = frozenset()
    kernels: tuple[str, ...] = ()

    transforms = (NONE, SHUFFLE, WITH_IMAGE, BOTH)

    @property
    def label(self) -> str:  # type: ignore[override]
        """The name of the module's class."""
        return type(self.module).__name__

    def __call__(self, images: Any) -> dict[str, Any]:
        """Activations by name: numpy arrays, channels last, in the order of computation."""
        found, _ = self._run(images)
        return {name: _numpy(f) for name, f in found.items()}

    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """The image moments of every layer, from which D, G and R are computed."""
        return streamed_moments(self, *inputs, batch_size=batch_size, on_batch=on_batch)

    def only(self, layers: Layers) -> "Features":
        """The same network, restricted to some of its layers."""
        chosen = _features(self.module, layers)
        return dataclasses.replace(self, names=chosen.names, required=chosen.required)

    def prepared(self, images: np.ndarray) -> "Features":
        """The same network with `overwritten` and `kernels` set, found by running it."""
        _, overwritten = self._run(images)
        modules = dict(self.module.named_modules())
        convolutions = tuple(n for n, one in modules.items() if isinstance(one, _CONVOLUTIONS))
        every = dataclasses.replace(self, names=convolutions, required=frozenset())
        ran, _ = every._run(images) if convolutions else ({}, frozenset())
        kernels = tuple(dict.fromkeys(name.partition(":")[0] for name in ran))
        return dataclasses.replace(self, overwritten=overwritten, kernels=kernels)

    def transformed(self, name: str, key: Key[Array, ""]) -> "Features":
        """The network with shuffled channels."""
        if name == NONE:
            return self
        kernels, weights = self._kernels()
        values = {
            path: w.detach().cpu().float().numpy() for path, w in weights.items() if w is not None
        }
        for kernel in chosen_kernels(kernels, name, self.label):
            _check_not_parametrized(kernel.path, values)
        found = shuffled(values, kernels, name, key, label=self.label)
        state = {
            path: torch.from_numpy(np.array(array)).to(weights[path])
            for path, array in found.items()
            if array is not values[path]
        }
        return dataclasses.replace(self, state=self.state | state)

    def _kernels(self) -> tuple[list[Kernel], dict[str, torch.Tensor | None]]:
        """The kernels, and parameters by path; a parameter of several layers is the first one's."""
        own = dict(self.module.named_parameters(remove_duplicate=False))
        every = [_kernel(layer, self.module.get_submodule(layer)) for layer in self.kernels]
        weights = {kernel.path: own.get(kernel.path) for kernel in every}
        first = {id(w): path for path, w in reversed(weights.items()) if w is not None}
        kernels = [one for one in every if first.get(id(weights[one.path]), one.path) == one.path]
        return kernels, {kernel.path: weights[kernel.path] for kernel in kernels}

    def record(self) -> dict[str, Any]:
        """The name of its class, the version of PyTorch, and a checksum of its weights."""
        checksum = hashlib.sha256()
        for name, tensor in self.module.state_dict().items():
            if isinstance(tensor, torch.Tensor):
                values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
                checksum.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                checksum.update(values.numpy().data)
        made_by = {"torch": torch.__version__, "weights_sha256": checksum.hexdigest()}
        return {"network": self.label, **made_by}

    def _run(self, images: Any) -> tuple[dict[str, torch.Tensor], frozenset[str]]:
        """Activations as tensors, and the layers whose outputs have to be copied."""
        tensor = self._tensor(images)
        copied, changed = self.overwritten, frozenset[str]()
        with torch.inference_mode(False), torch.no_grad(), _inference(self.module):
            while True:
                with _recording(self.module, self.names, copied) as found:
                    self._forward(tensor)
                changed = frozenset(n for n, (f, version) in found.items() if f._version != version)
                if not changed:
                    break
                copied = copied | changed
        self._check_used(found)
        return {name: f for name, (f, _) in found.items()}, copied

    def _tensor(self, images: Any) -> torch.Tensor:
        """Images as the module expects them; channels stay last in memory, fast on CPUs."""
        like = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        tensor = torch.from_numpy(np.require(images, np.float32, "W")).permute(0, 3, 1, 2)
        return tensor if like is None else tensor.to(like.device, like.dtype)

    def _forward(self, tensor: torch.Tensor) -> None:
        try:
            torch.func.functional_call(self.module, self.state, (tensor,))
        except Exception as error:
            error.add_note(
                f"cnnpool: {self.label} was called with one tensor of images of shape "
                f"{tuple(tensor.shape)}, in inference mode"
            )
            raise

    def _check_used(self, found: dict[str, Any]) -> None:
        ran = {re.split("[:/]", name)[0] for name in found}
        idle = [name for name in self.names if (name or self.label) not in ran]
        if not found or self.required.intersection(idle):
            raise ValueError(
                f"no named activations of {', '.join(idle)}: these modules are not called, or do "
                "not return a tensor"
            )


def _kernel(layer: str, convolution: Any) -> Kernel:
    """Kernels: (outputs, inputs / groups, ...); transposed: (inputs, outputs / groups, ...)."""
    path = f"{layer}.weight" if layer else "weight"
    if isinstance(convolution, _TRANSPOSED):
        return Kernel(path, 0, 1)
    one_input = convolution.in_channels == convolution.groups
    return Kernel(path, 1, 0, depthwise=convolution.groups > 1 and one_input)


def _check_not_parametrized(path: str, parameters: Collection[str]) -> None:
    if path not in parameters:
        raise ValueError(
            f"expected {path} to be a parameter, but it is computed from others; first call "
            "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        )


@contextlib.contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    """Puts the module into inference mode within the context."""
    training = [one for one in module.modules() if one.training]
    module.eval()
    try:
        yield
    finally:
        for one in training:
            one.training = True


@contextlib.contextmanager
def _recording(
    module: nn.Module, names: Sequence[str], copied: frozenset[str]
) -> Iterator[dict[str, tuple[torch.Tensor, int]]]:
    """Records the outputs of modules within the context, with their version counters."""
    found: dict[str, tuple[torch.Tensor, int]] = {}
    calls: dict[str, int] = {}

    def record(name: str, one: nn.Module, _arguments: Any, output: Any) -> None:
        calls[name] = calls.get(name, 0) + 1
        called = name if calls[name] == 1 else f"{name}:{calls[name]}"
        for path, value in flattened({called: output}).items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                kept = _channels_last(one, value)
                kept = kept.clone() if path in copied else kept
                found[path] = kept, kept._version

    with contextlib.ExitStack() as hooks:
        for name in names:
            one = module.get_submodule(name)
            hook = functools.partial(record, name or type(one).__name__)
            hooks.callback(one.register_forward_hook(hook).remove)
        yield found


def _channels_last(module: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """Moves the channels of feature maps (n, channels, ...) last; tokens and vectors unchanged."""
    if isinstance(module, nn.Linear | nn.LayerNorm | nn.Embedding):
        return output
    is_map = output.ndim >= 4 or (output.ndim == 3 and isinstance(module, _CONVOLUTIONS))
    return output.movedim(1, -1) if is_map else output


def _numpy(output: torch.Tensor) -> np.ndarray:
    output = output.float() if output.dtype == torch.bfloat16 else output
    return output.cpu().numpy()
