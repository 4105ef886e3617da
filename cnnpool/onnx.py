"""Networks in ONNX files, run by ONNX Runtime: `cnnpool.onnx.features("model.onnx")`.

The packages onnx and onnxruntime are imported here and nowhere else.
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
    """A network in ONNX as a function from images to named activations.

    Images (n, rows, columns, channels) go in as (n, channels, rows, columns), or as they are where
    the declared shape of the network's input has its channels last alone; activations of three
    axes and more behind the first come out channels last. Where the network takes so many images at
    once, it is given them so.

    Args:
      model: the file, or an `onnx.ModelProto`; an `onnxruntime.InferenceSession` says no more than
        its outputs, which are its layers then, and its kernels are not known.
      layers: names of the outputs of nodes, or patterns, "*"; None takes those of all convolutions
        and matrix products with weights.
      providers: the execution providers of ONNX Runtime.

    Raises:
      ValueError: if a name matches nothing, with the nearest; if there are no such layers, or the
        network takes something else than one batch of images.
      TypeError: if it is none of these.
    """
    if isinstance(model, onnxruntime.InferenceSession):
        return Features(model, tuple(chosen([o.name for o in model.get_outputs()], layers)))
    if isinstance(model, str | os.PathLike):
        model = onnx.load(os.fspath(model))
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(
            "expected a file of ONNX, an onnx.ModelProto or an onnxruntime.InferenceSession, got "
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
            "no named activations: the network has no convolution and no product with weights; "
            f"name its layers, layers=[...], of {', '.join(every[:8])}"
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
    options.log_severity_level = 3  # it warns of weights that are named as inputs
    return onnxruntime.InferenceSession(
        exposed.SerializeToString(), options, providers=list(providers)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Features(Measurable):
    """See `features`.

    Attributes:
      session: of the network, with its layers among the outputs.
      names: of the layers.
      model: the network; None of a session.
      providers: of ONNX Runtime.
    """

    session: onnxruntime.InferenceSession
    names: tuple[str, ...]
    model: onnx.ModelProto | None = None
    providers: tuple[str, ...] = ()

    @property
    def transforms(self) -> Sequence[str]:  # type: ignore
        """Those that are known of it."""
        return (NONE,) if self.model is None else (NONE, SHUFFLE, WITH_IMAGE, BOTH)

    @property
    def label(self) -> str:  # type: ignore
        """The name of its graph."""
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
        """What D, G and R of every layer are made of."""
        return streamed_moments(self, *inputs, batch_size=batch_size, on_batch=on_batch)

    def only(self, layers: Layers) -> "Features":
        """The same network with some of its layers alone."""
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
            raise ValueError(f"{name}: {absent[0]} is no stored kernel, it is computed from others")
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        found = shuffled(values, kernels, name, key, label=self.label)
        for one in changed.graph.initializer:
            if one.name in found:
                one.CopyFrom(numpy_helper.from_array(np.asarray(found[one.name]), one.name))
        session = _session(changed, self.names, self.providers)
        return dataclasses.replace(self, session=session, model=changed)

    def record(self) -> dict[str, Any]:
        """Its graph's name and a checksum of the network."""
        made_by = {"network": self.label, "onnxruntime": onnxruntime.__version__}
        if self.model is None:
            return made_by
        checksum = hashlib.sha256(self.model.SerializeToString(deterministic=True))
        return made_by | {"onnx_sha256": checksum.hexdigest()}


def _image_input(session: onnxruntime.InferenceSession) -> Any:
    """The input of a network.

    Raises:
      ValueError: if it is not one batch of images of floats.
    """
    sources = session.get_inputs()
    if len(sources) != 1 or len(sources[0].shape) != 4 or sources[0].type not in _DTYPES:
        found = ", ".join(f"{one.name}: {one.type} of shape {one.shape}" for one in sources)
        raise ValueError(
            f"expected a network of one batch of images of floats, (N, C, H, W), got one of {found}"
        )
    return sources[0]


def _as_taken(source: Any, images: np.ndarray) -> np.ndarray:
    """Images in the layout and precision of an input.

    Raises:
      ValueError: if the input is of images of another size.
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
    """All images at once, or so many as are taken; the last image fills up a batch."""
    if not isinstance(size, int):
        yield images
        return
    for start in range(0, len(images), size):
        yield images[np.minimum(np.arange(start, start + size), len(images) - 1)]


def _joined(parts: Sequence[np.ndarray], count: int) -> np.ndarray:
    """The first rows of several batches; what has no rows is refused by whoever measures."""
    return np.concatenate(parts)[:count] if parts[0].ndim else parts[0]


def _kernels(model: onnx.ModelProto) -> list[Kernel]:
    """Of convolutions, in the order in which they run, each once."""
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
