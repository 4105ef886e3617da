"""What devices that share a batch send one another: calculated, and read out of a compiled program.

All of it is float32: all-reduces, which are sums over images, and of batch normalization
all-gathers. With P parameters, C channels under batch normalization (of all its layers together), O
outputs and E_l entries of unit l, all of one network:

    step         4 (P + 2)                   gradients, loss and error; the backward pass of batch
                                             norm needs but what are its parameters' gradients
                 8 C, gathered               means and variances of every device's own images
    evaluation   4 (chunks (2 O + 2) + 1)    loss, error, largest and smallest outputs of a chunk of
                                             test images; their number
    measurement  4 (sum_l (2 E_l + S_l + U_l) + 2)   means of unit l twice, of its S_l projections,
                                             and of g.c of the unit and those that rescale it, U_l
                                             together (`cnnpool.instruments.moments.image_moments`)
"""

import collections
from collections.abc import Iterable
import math
import re
from typing import Any, NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from cnnpool.instruments import moment_programs
from cnnpool.instruments.layer_sums import Shape
from cnnpool.measuring.network import features
from cnnpool.models.layers import Conv, Linear
from cnnpool.training.variables import Variables

_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "f64": 8}
_COLLECTIVE = re.compile(
    r"= (.+?) (all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|"
    r"reduce-scatter|ragged-all-to-all)(?:-start)?\("
)


class Size(NamedTuple):
    """What a network's traffic and work depend on.

    Attributes:
      parameters: P.
      normalized_channels: C, of all batch-norm layers together.
      norms: number of batch-norm layers.
      outputs: O.
      measured: E_l, S_l and U_l of each unit that is not another one rescaled.
      flops: multiplications and additions of convolutions and linear layers, an image forward.
    """

    parameters: int
    normalized_channels: int
    norms: int
    outputs: int
    measured: tuple[Shape, ...]
    flops: int


def size_of(model: Any, image: tuple[int, int, int]) -> Size:
    """The sizes of a network, from shapes alone.

    Args:
      model: a Flax module as `cnnpool.models.build` returns it.
      image: (height, width, channels).
    """
    flops = 0

    def count(call, args, kwargs, context):
        nonlocal flops
        y = call(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and isinstance(module, Conv):
            inputs = args[0].shape[-1] // module.groups
            flops += 2 * math.prod(y.shape) * module.kernel_size**2 * inputs
        elif context.method_name == "__call__" and isinstance(module, Linear):
            flops += 2 * math.prod(y.shape) * args[0].shape[-1]
        return y

    images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    with nn.intercept_methods(count):
        outputs, _ = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, images)
    network = Variables(variables["params"], variables.get("batch_stats", {}))
    units = jax.eval_shape(lambda v, x: features(model, v, rescaled=True)(x), network, images)
    statistics = [a.size for a in jax.tree.leaves(variables.get("batch_stats", {}))]
    return Size(
        parameters=sum(a.size for a in jax.tree.leaves(variables["params"])),
        normalized_channels=sum(statistics) // 2,
        norms=len(statistics) // 2,
        outputs=outputs.shape[-1],
        measured=tuple(shape for _, shape in moment_programs.layer_shapes(units)),
        flops=flops,
    )


def step_bytes(size: Size) -> int:
    """Summed in one training step of one network."""
    return 4 * (size.parameters + 2)


def gathered_bytes(size: Size) -> int:
    """That each device gives to all others in one training step of one network."""
    return 8 * size.normalized_channels


def evaluation_bytes(size: Size, *, chunks: int, networks: int = 1) -> int:
    """Of the evaluation of networks, side by side on one device, on all test images in chunks."""
    return 4 * (networks * chunks * (2 * size.outputs + 2) + 1)


def measurement_bytes(size: Size) -> int:
    """Of the sensitivities of all units of one network, however many images and draws."""
    of_units = (2 * one.entries + one.projections + one.units for one in size.measured)
    return 4 * (sum(of_units) + 2)


def collectives(program: str) -> dict[str, int]:
    """Bytes of each kind of collective operation in a compiled program, each counted once.

    Args:
      program: text of the optimized HLO, `jax.jit(f).lower(...).compile().as_text()`.
    """
    found: collections.Counter[str] = collections.Counter()
    for shapes, kind in _COLLECTIVE.findall(program):
        found[kind] += sum(_array_bytes(re.findall(r"(\w+)\[([\d,]*)\]", shapes)))
    return dict(found)


def _array_bytes(shapes: Iterable[tuple[str, str]]) -> Iterable[int]:
    for dtype, dimensions in shapes:
        yield _BYTES[dtype] * math.prod(int(d) for d in dimensions.split(",") if d)
