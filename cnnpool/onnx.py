"""Measures networks in ONNX files with ONNX Runtime: `cnnpool.onnx.features("model.onnx")`.

This is the only file of the package that imports onnx and onnxruntime.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import os
from typing import Any

from jax import Array
import numpy as np
import onnx
from onnx import numpy_helper
import onnxruntime

from cnnpool.instruments.moments import ImageMoments
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.streamed_moments import streamed_moments
from cnnpool.library.activations import Layers, chosen
from cnnpool.library.channel_shuffles import BOTH, SHUFFLE, WITH_IMAGE, Kernel, shuffled
from cnnpool.library.measurable import NONE, Measurable
from cnnpool.shapes import Key

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LINEAR = ("Gemm", "MatMul")
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def features(
    model: Any, layers: Layers = None, *, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> "Features":
    """Converts an ONNX network to a function from images to named activations.

    Images (n, rows, columns, channels) are passed to the network as (n, channels, rows, columns),
    or unchanged if the declared shape of its input fits only channels last. Activations with four
    or more axes are returned channels last. If the network has a fixed batch size, images are
    passed in batches of that size.

    Args:
      model: a file, or an `onnx.ModelProto`; or an `onnxruntime.InferenceSession`, whose only
        layers are its outputs and whose kernels are unknown.
      layers: names of the outputs of nodes, or patterns such as "*"; None: the outputs of all
        convolutions and matrix products with weights.
      providers: the execution providers of ONNX Runtime.

    Raises:
      ValueError: if a name matches no output (with similar names as hints), there are no
        convolutions or products, or the network does not take one batch of images.
      TypeError: if `model` is none of these.
    """
    if isinstance(model, onnxruntime.InferenceSession):
        return Features(model, tuple(chosen([o.name for o in model.get_outputs()], layers)))
    if isinstance(model, str | os.PathLike):
        model = onnx.load(os.fspath(model))
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(
            "expected an ONNX file, an onnx.ModelProto or an onnxruntime.InferenceSession, got "
            f"{type(model).__name__}"
        )
    return _of_proto(model, layers, tuple(providers))


def _of_proto(model: onnx.ModelProto, layers: Layers, providers: tuple[str, ...]) -> "Features":
    nodes = [node for node in model.graph.node if node.output]
    numbers = {one.name for one in model.graph.initializer}
    weighed = [
        node.output[0]
        for node in nodes
        if node.op_type in _CONVOLUTIONS
        or (node.op_type in _LINEAR and numbers.intersection(node.input))
    ]
    every = [name for node in nodes for name in node.output if name and name not in numbers]
    if layers is None and not weighed:
        raise ValueError(
            "no named activations: the network has no convolution and no matrix product with "
            f"weights; choose its layers, layers=[...], from {', '.join(every[:8])}"
        )
    names = weighed if layers is None else chosen(every, layers)
    return Features(_session(model, names, providers), tuple(names), model, providers)


def _session(
    model: onnx.ModelProto, names: Sequence[str], providers: Sequence[str]
) -> onnxruntime.InferenceSession:
    """A session whose outputs are the named values."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    known = {output.name for output in exposed.graph.output}
    exposed.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # no warnings about weights that are also listed as inputs
    return onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=list(providers)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Features(Measurable):
    """An ONNX network; see `features`.

    Attributes:
      session: a session of the network whose outputs include its layers.
      names: names of the layers.
      model: the network; None if it was given as a session.
      providers: the execution providers of ONNX Runtime.
    """

    session: onnxruntime.InferenceSession
    names: tuple[str, ...]
    model: onnx.ModelProto | None = None
    providers: tuple[str, ...] = ()

    @property
    def transforms(self) -> Sequence[str]:  # type: ignore
        """The transforms that are possible."""
        return (NONE,) if self.model is None else (NONE, SHUFFLE, WITH_IMAGE, BOTH)

    @property
    def label(self) -> str:  # type: ignore
        """The name of its graph, or "onnx"."""
        return (self.model.graph.name if self.model else "") or "onnx"

    def __call__(self, images: Any) -> dict[str, np.ndarray]:
        """Activations by name, channels last."""
        source = _image_input(self.session)
        images = _as_taken(source, np.asarray(images))
        parts = [
            self.session.run(self.names, {source.name: part})
            for part in _batches(source.shape[0], images)
        ]
        arrays = [_joined(one, len(images)) for one in zip(*parts, strict=True)]
        return {
            name: np.moveaxis(f, 1, -1) if f.ndim > 3 else f
            for name, f in zip(self.names, arrays, strict=True)
        }

    def moments(
        self, inputs: Inputs, *, batch_size: int, on_batch: Callable[[int], Any]
    ) -> dict[str, ImageMoments]:
        """The image moments of every layer, from which D, G and R are computed."""
        return streamed_moments(self, *inputs, batch_size=batch_size, on_batch=on_batch)

    def only(self, layers: Layers) -> "Features":
        """The same network, restricted to some of its layers."""
        if self.model is None:
            return features(self.session, layers)
        return _of_proto(self.model, layers, self.providers)

    def transformed(self, name: str, key: Key[Array, ""]) -> "Features":
        """The network with shuffled channels."""
        if name == NONE or self.model is None:
            return self
        kernels = _kernels(self.model)
        stored = {one.name: one for one in self.model.graph.initializer}
        values = {
            k.path: numpy_helper.to_array(stored[k.path]) for k in kernels if k.path in stored
        }
        if absent := [kernel.path for kernel in kernels if kernel.path not in stored]:
            raise ValueError(
                f"{name} expects stored kernels; {absent[0]} is computed from other values. Export "
                "the network with constant folding"
            )
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        found = shuffled(values, kernels, name, key, label=self.label)
        for one in changed.graph.initializer:
            if one.name in found:
                one.CopyFrom(numpy_helper.from_array(np.asarray(found[one.name]), one.name))
        session = _session(changed, self.names, self.providers)
        return dataclasses.replace(self, session=session, model=changed)

    def record(self) -> dict[str, Any]:
        """The name of its graph, the version of ONNX Runtime, and a checksum of the network."""
        made_by = {"network": self.label, "onnxruntime": onnxruntime.__version__}
        if self.model is None:
            return made_by
        checksum = hashlib.sha256(self.model.SerializeToString(deterministic=True))
        return made_by | {"onnx_sha256": checksum.hexdigest()}


def _image_input(session: onnxruntime.InferenceSession) -> Any:
    """The input of a network.

    Raises:
      ValueError: if the network does not take one batch of floating-point images.
    """
    sources = session.get_inputs()
    if len(sources) != 1 or len(sources[0].shape) != 4 or sources[0].type not in _DTYPES:
        found = ", ".join(f"{one.name}: {one.type} of shape {one.shape}" for one in sources)
        raise ValueError(
            "expected a network that takes one batch of floating-point images, (N, C, H, W); it "
            f"takes {found}"
        )
    return sources[0]


def _as_taken(source: Any, images: np.ndarray) -> np.ndarray:
    """Images in the layout and precision of an input.

    Raises:
      ValueError: if the input has another image size.
    """
    first, last = source.shape[1], source.shape[3]
    channels_last = last == images.shape[-1] and first != last and isinstance(first, int | None)
    images = images if channels_last else np.moveaxis(images, -1, 1)
    expected, got = source.shape[1:], images.shape[1:]
    if any(isinstance(e, int) and e != g for e, g in zip(expected, got, strict=True)):
        axes = "rows, columns, channels" if channels_last else "channels, rows, columns"
        raise ValueError(f"the network takes images of shape {expected} ({axes}), got {list(got)}")
    return np.ascontiguousarray(images, _DTYPES[source.type])


def _batches(size: Any, images: np.ndarray) -> Iterator[np.ndarray]:
    """All images at once, or in batches of a fixed size; the last image is repeated to fill up."""
    if not isinstance(size, int):
        yield images
        return
    for start in range(0, len(images), size):
        yield images[np.minimum(np.arange(start, start + size), len(images) - 1)]


def _joined(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Concatenates batches and keeps `count` rows; scalars, an error later on, are unchanged."""
    return np.concatenate(parts)[:count] if parts[0].ndim else parts[0]


def _kernels(model: onnx.ModelProto) -> list[Kernel]:
    """The kernels of convolutions, in the order of their nodes, each once."""
    shapes = {one.name: tuple(one.dims) for one in model.graph.initializer}
    kernels = {}
    for node in model.graph.node:
        if node.op_type in _CONVOLUTIONS:
            path = node.input[1]
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            one_input = groups > 1 and shapes.get(path, (0, 0))[1] == 1
            inputs, outputs = (0, 1) if node.op_type == "ConvTranspose" else (1, 0)
            kernels[path] = Kernel(path, inputs, outputs, one_input and inputs == 1)
    return list(kernels.values())
