"""The layers of the classifiers, with PyTorch's conventions, and the chain that names them.

Images and maps are (batch, height, width, channels). Everything is computed in the dtype
of the input, which the parameters must share. See docs/protocol.md, "Networks".
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax import Array, lax
import jax.numpy as jnp
from jaxtyping import Float
import numpy as np

from cnnpool.devices import batch_sharding
from cnnpool.kernels.convolution import conv2d
from cnnpool.kernels.product import product

Activations = dict[str, Float[Array, "batch ..."]]
Map = Float[Array, "batch height width channels"]

MOMENTUM = 0.1  # weight of the current batch in running statistics
_EPSILON = 1e-5
_MAP_AXES = (0, 1, 2)


class Chain:
    """Layers applied one after another, every output kept under its layer's name.

        chain = Chain(images)
        chain.layer("conv01", Conv, 6, kernel_size=5)
        chain.apply("relu01", nn.relu)
        return chain.value, chain.activations

    To be used inside a module's compact `__call__`, which then owns the layers.

    Attributes:
      value: output of the last layer.
      activations: outputs of all layers, in forward order.
    """

    def __init__(self, value: Array, activations: Activations | None = None):
        self.value = value
        self.activations: Activations = {} if activations is None else activations

    def apply(self, name: str, function: Callable[[Array], Array]) -> None:
        """Applies a function without parameters."""
        self.value = self.activations[name] = function(self.value)

    def layer(self, name: str, module: type[nn.Module], *args: Any, **fields: Any) -> None:
        """Applies a module, whose parameters are stored under `name`."""
        self.apply(name, module(*args, **fields, name=name))

    def block(self, name: str, module: type[nn.Module], *args: Any, **fields: Any) -> None:
        """Applies a module that returns its own activations; they are kept as `name`/..."""
        self.value, inner = module(*args, **fields, name=name)(self.value)
        self.activations |= {f"{name}/{unit}": output for unit, output in inner.items()}

    def branch(self, value: Array) -> "Chain":
        """A second chain that starts at `value` and adds its activations to this chain's."""
        return Chain(value, self.activations)


@functools.cache
def uniform(fan_in: int) -> Callable[..., Array]:
    """Initializer U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default."""
    bound = 1 / math.sqrt(fan_in)

    def initialize(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialize


class Conv(nn.Module):
    """Convolution with square kernels; weights and biases U(+-1/sqrt(fan_in)).

    fan_in is kernel_size^2 inputs / groups. See docs/protocol.md, "Networks".

    Attributes:
      features: number of output channels.
      kernel_size: pixels per side.
      stride: stride in pixels.
      padding: zeros added on every side, in pixels.
      groups: number of groups of channels that do not mix; divides inputs and features.
      use_bias: whether a bias is added.
    """

    features: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Map) -> Float[Array, "batch h w features"]:
        """The map, with (size + 2 padding - kernel_size) // stride + 1 pixels per side."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1] // self.groups, self.features)
        initialize = uniform(math.prod(shape[:3]))
        kernel = self.param("kernel", initialize, shape, x.dtype)
        y = conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=self.groups)
        if not self.use_bias:
            return y
        return y + self.param("bias", initialize, (self.features,), x.dtype)[None, None, None]


class Linear(nn.Module):
    """x W + b; weights and biases U(+-1/sqrt(inputs)) (docs/protocol.md, "Networks").

    Attributes:
      features: number of outputs.
      use_bias: whether b is added.
    """

    features: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "batch inputs"]) -> Float[Array, "batch features"]:
        """The outputs, in full float32: accelerators would round the factors to TF32."""
        initialize = uniform(x.shape[-1])
        kernel = self.param("kernel", initialize, (x.shape[-1], self.features), x.dtype)
        y = product(x, kernel)
        if not self.use_bias:
            return y
        return y + self.param("bias", initialize, (self.features,), x.dtype)[None]


class BatchNorm(nn.Module):
    """scale (x - mean) / sqrt(var + 1e-5) + bias, by channel.

    In training, mean and (biased) variance are those of the batch, and the running statistics
    in the collection `batch_stats`, if it is mutable, become 0.9 old + 0.1 batch, with the
    unbiased variance. Otherwise the running statistics are used. Statistics are computed in
    at least float32, in two passes, over the whole batch even if devices share it.
    See docs/protocol.md, "Networks".

    Attributes:
      train: whether to normalize with the batch's statistics.
    """

    train: bool

    @nn.compact
    def __call__(self, x: Map) -> Map:
        """The normalized map, in the dtype of x.

        Raises:
          ValueError: in training, if a channel has only one value.
        """
        dtype, channels = jnp.promote_types(x.dtype, jnp.float32), x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels, x.dtype).astype(dtype)
        bias = self.param("bias", nn.initializers.zeros, channels, x.dtype).astype(dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, dtype)
        var = self.variable("batch_stats", "var", jnp.ones, channels, dtype)
        values = x.astype(dtype)
        if not self.train:
            y = _normalize(values, mean.value.astype(dtype), var.value.astype(dtype), scale, bias)
            return y.astype(x.dtype)
        y, batch_mean, batch_var = _batch_normalize(values, scale, bias)
        self._track(mean, batch_mean)
        count = math.prod(x.shape[:-1])
        self._track(var, batch_var * (count / (count - 1)))
        return y.astype(x.dtype)

    def inference(self) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
        """Gain and offset per channel of a bound layer in inference mode: y = gain x + offset."""
        parameters, running = self.variables["params"], self.variables["batch_stats"]
        gain = _gain(parameters["scale"], running["var"])
        return gain, parameters["bias"] - running["mean"] * gain

    def _track(self, running: nn.Variable, batch: Float[Array, " channels"]) -> None:
        # Initialization must not depend on the images it is traced with.
        if self.is_mutable_collection("batch_stats") and not self.is_initializing():
            old = running.value
            running.value = ((1 - MOMENTUM) * old + MOMENTUM * batch).astype(old.dtype)


@contextlib.contextmanager
def batch_norms_noted(note: Callable[[BatchNorm, Map, Map], Any]) -> Iterator[None]:
    """Calls `note` with every batch normalization that is applied, its input and its output."""

    def watch(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        y = call(*args, **kwargs)
        if isinstance(context.module, BatchNorm) and context.method_name == "__call__":
            note(context.module, args[0], y)
        return y

    with nn.intercept_methods(watch):
        yield


def _by_channel(vector: Float[Array, " channels"]) -> Float[Array, "1 1 1 channels"]:
    return vector[None, None, None]


def _normalize(x: Map, mean: Array, var: Array, scale: Array, bias: Array) -> Map:
    return (x - _by_channel(mean)) * _by_channel(_gain(scale, var)) + _by_channel(bias)


def _gain(scale: Array, var: Array) -> Array:
    return scale * lax.rsqrt(var + _EPSILON)


@jax.custom_vjp
def _batch_normalize(x: Map, scale: Array, bias: Array) -> tuple[Map, Array, Array]:
    """Normalized map, mean and biased variance; no gradient flows through the latter two.

    The hand-written gradient saves a fifth of the time of both passes on a CPU.
    """
    return _batch_normalize_forward(x, scale, bias)[0]


def _batch_normalize_forward(x, scale, bias):
    if math.prod(x.shape[:-1]) < 2:
        raise ValueError(
            "batch normalization in training expects at least two values a channel, got a map of "
            f"{x.shape}; take a larger batch"
        )
    mean, var = _statistics(x)
    return (_normalize(x, mean, var, scale, bias), mean, var), (x, mean, var, scale)


def _statistics(x: Map) -> tuple[Array, Array]:
    """Mean and biased variance by channel.

    Devices that share a batch take two passes over their own images, then exchange both at once:
    var = mean_d(var_d + (mean_d - mean)^2), all images weighing the same. A mean square minus a
    squared mean would be one exchange too, and lose digits; see docs/scaling.md.
    """
    if batch_sharding.shares(len(x)) == 1:
        return _two_passes(x)
    means, variances = batch_sharding.of_each_device(_two_passes)(x)
    mean = means.mean(0)
    return mean, (variances + jnp.square(means - mean[None])).mean(0)


def _two_passes(x: Map) -> tuple[Array, Array]:
    mean = x.mean(_MAP_AXES)
    return mean, jnp.square(x - _by_channel(mean)).mean(_MAP_AXES)


def _batch_normalize_backward(residuals, cotangents):
    x, mean, var, scale = residuals
    dy, count = cotangents[0], math.prod(x.shape[:-1])
    rate = lax.rsqrt(var + _EPSILON)
    dbias = dy.sum(_MAP_AXES)
    dscale = (dy * (x - _by_channel(mean))).sum(_MAP_AXES) * rate
    slope = _by_channel(dscale * rate / count)
    centred = dy - _by_channel(dbias / count) - (x - _by_channel(mean)) * slope
    return centred * _by_channel(scale * rate), dscale, dbias


_batch_normalize.defvjp(_batch_normalize_forward, _batch_normalize_backward)


class Dropout(nn.Module):
    """Zeroes entries with probability `rate` and divides the others by 1 - rate.

    The key comes from the stream `dropout`. If the collection `masks` holds an array `mask`
    at this module's path, entries are multiplied by it instead, so that a test can repeat the masks
    of another program. The identity if `rate` is 0 or outside training.

    Attributes:
      rate: probability of dropping, in [0, 1).
      train: whether entries are dropped.
    """

    rate: float
    train: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        """The remaining entries, rescaled."""
        if not self.train or self.rate == 0:
            return x
        if self.has_variable("masks", "mask"):
            return x * self.get_variable("masks", "mask").astype(x.dtype)
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, self.mask_shape(x))
        return jnp.where(kept, x / (1 - self.rate), 0)

    def mask_shape(self, x: Float[Array, "batch ..."]) -> tuple[int, ...]:
        """One decision per entry."""
        return x.shape


class DropConnect(Dropout):
    """Dropout of whole images: one decision for all entries of an image."""

    def mask_shape(self, x: Float[Array, "batch ..."]) -> tuple[int, ...]:
        """One decision per image."""
        return (x.shape[0],) + (1,) * (x.ndim - 1)


def max_pool_2x2(x: Map) -> Float[Array, "batch h w channels"]:
    """Maxima of 2 x 2 blocks; the gradient goes to the first maximum in reading order.

    An odd last row or column is dropped. Both are as in PyTorch.

    Raises:
      ValueError: if a side is shorter than two pixels.
    """
    height, width = x.shape[1:3]
    if min(height, width) < 2:
        raise ValueError(
            f"a 2 x 2 pool expects a map of at least 2 x 2 pixels, got {height} x {width}; "
            "take larger images"
        )
    return _pool_even(x[:, : height - height % 2, : width - width % 2])


@jax.custom_vjp
def _pool_even(x: Map) -> Float[Array, "batch h w channels"]:
    """On a CPU nine times faster than lax.reduce_window, gradient included."""
    return _pool_forward(x)[0]


def _pool_forward(x):
    batch, height, width, channels = x.shape
    blocks = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
    corners = [blocks[:, :, row, :, column] for row in (0, 1) for column in (0, 1)]
    # In pairs: unlike a reduction, XLA fuses this with the preceding layer. No corner is compared
    # with the maximum for equality: XLA may compute a corner twice, and round it differently.
    upper, lower = jnp.maximum(*corners[:2]), jnp.maximum(*corners[2:])
    in_upper, in_lower = (jnp.int8(b > a) for a, b in (corners[:2], corners[2:]))
    first = jnp.where(lower > upper, 2 + in_lower, in_upper)
    # Without the barrier the gradient compares the corners again for each pixel.
    return jnp.maximum(upper, lower), lax.optimization_barrier(first)


def _pool_backward(first, dy):
    batch, height, width, channels = dy.shape
    index = jnp.arange(4, dtype=jnp.int8).reshape(1, 1, 2, 1, 2, 1)
    dx = jnp.where(first[:, :, None, :, None] == index, dy[:, :, None, :, None], 0)
    return (dx.reshape(batch, 2 * height, 2 * width, channels),)


_pool_even.defvjp(_pool_forward, _pool_backward)


@jax.custom_jvp
def _maximum(first: Map, second: Map) -> Map:
    """The larger one; the gradient of a tie goes to the first, not half to each."""
    return jnp.maximum(first, second)


@_maximum.defjvp
def _maximum_jvp(maps, tangents):
    return _maximum(*maps), jnp.where(maps[0] >= maps[1], *tangents)


def max_pool(
    x: Map, *, size: int, stride: int, padding: int = 0
) -> Float[Array, "batch h w channels"]:
    """Maxima of size x size windows; the gradient goes to the first maximum in reading order.

    As in PyTorch, windows start at every stride-th pixel of the padded map, and those that
    would extend beyond it are left out. Columns are reduced before rows, so that of equal maxima
    the first one in the first row is taken. For 2 x 2 windows take `max_pool_2x2`, whose gradient
    is fast.

    Args:
      x: the map.
      size: pixels per side.
      stride: stride in pixels.
      padding: pixels on every side, which are never the maximum.

    Raises:
      ValueError: if the padded map is smaller than a window.
    """
    if min(x.shape[1:3]) + 2 * padding < size:
        raise ValueError(
            f"a {size} x {size} pool with padding {padding} expects a larger map than "
            f"{x.shape[1]} x {x.shape[2]}; take larger images"
        )
    edge = (padding, padding, 0)
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), ((0, 0, 0), edge, edge, (0, 0, 0)))
    for axis in (2, 1):
        last = x.shape[axis] - size + 1
        x = functools.reduce(
            _maximum,
            [lax.slice_in_dim(x, i, i + last, stride, axis) for i in range(size)],
        )
    return x


def adaptive_average_pool(x: Map, size: int) -> Float[Array, "batch size size channels"]:
    """Means over size x size windows that cover the map, as PyTorch lays them.

    Window p of a side of n pixels reaches from floor(p n / size) to ceil((p + 1) n / size), its
    end excluded: windows overlap, and are larger than the map where it is smaller than size.

    Args:
      x: the map.
      size: number of windows per side.
    """
    if x.shape[1:3] == (size, size):
        return x
    rows, columns = (jnp.asarray(_window_means(n, size), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("pi,nijc,qj->npqc", rows, x, columns, precision=lax.Precision.HIGHEST)


def _window_means(pixels: int, size: int) -> Float[np.ndarray, "size pixels"]:
    weights = np.zeros((size, pixels))
    for window in range(size):
        start, end = window * pixels // size, -(-(window + 1) * pixels // size)
        weights[window, start:end] = 1 / (end - start)
    return weights


def average_pool(x: Map) -> Float[Array, "batch channels"]:
    """Mean over all positions."""
    return x.mean((1, 2))


def flatten(x: Map) -> Float[Array, "batch features"]:
    """The entries in the order of PyTorch's maps: channel, height, width."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


def pad_single_channel(x: Map) -> Float[Array, "batch h w channels"]:
    """Images of one channel padded with two zeros on every side, others as they are."""
    return jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))) if x.shape[-1] == 1 else x


def check_size(network: str, x: Map, *, smallest: int, largest: int | None) -> None:
    """Raises ValueError for images whose size a network cannot take.

    Args:
      network: name of the network, for the message.
      x: images, after any padding.
      smallest: smallest side, in pixels.
      largest: largest side, in pixels; None if there is no limit.

    Raises:
      ValueError: if a side is shorter or longer.
    """
    height, width = x.shape[1:3]
    if min(height, width) < smallest or (largest is not None and max(height, width) > largest):
        limit = "or more" if largest is None else f"to {largest}"
        raise ValueError(
            f"{network} expects images of {smallest} {limit} pixels a side, got {height} x "
            f"{width}; take images of that size, or efficientnet_b0, which takes any"
        )
