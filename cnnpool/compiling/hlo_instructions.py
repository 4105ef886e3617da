"""Single instructions of a compiled program: their operations, collectives and iterations."""

import dataclasses
import functools
import math
import re

from cnnpool.compiling.hlo_text import Computation, Instruction, Module

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "reduce-scatter",
    "ragged-all-to-all",
    "send",  # to another slice, over the network between hosts: no link of the chip's
)
# Bfloat16 products per product, by XLA's operand precision.
_PASSES = {"highest": 6, "high": 3}


@dataclasses.dataclass(frozen=True)
class Collective:
    """Collective operations of the same kind and size.

    Attributes:
      kind: the operation, e.g. all-reduce.
      size: bytes of one operation's operands on a device.
      devices: number of devices that take part in one operation.
      count: number of operations.
    """

    kind: str
    size: int
    devices: int
    count: int = 1


def passes(one: Instruction) -> int:
    """The number of bfloat16 products that a matrix unit computes for one of its products."""
    found = re.search(r"operand_precision=\{(\w+),(\w+)\}", one.attributes)
    return max(_PASSES.get(name, 1) for name in found.groups()) if found else 1


def trip_count(loop: Instruction, there: Computation, module: Module) -> int | None:
    """The number of iterations of a loop; None if the program does not determine it.

    It is taken from XLA's annotation of the loop, or from a condition i < n in which n is a
    constant and i starts at the constant 0.
    """
    noted = re.search(r'known_trip_count"?:\{"n":"(\d+)"', loop.attributes)
    if noted:
        return int(noted[1])
    (condition,) = loop.called("condition")
    inside = module.computations[condition]
    root = next(one for one in inside.values() if one.root)
    if root.opcode != "compare" or "direction=LT" not in root.attributes:
        return None
    counter, end = (inside[name] for name in root.operands)
    number = re.search(r"index=(\d+)", counter.attributes)
    if end.opcode != "constant" or counter.opcode != "get-tuple-element" or not number:
        return None
    start = there[loop.operands[0]]
    if start.opcode == "tuple":
        start = there[start.operands[int(number[1])]]
    if start.opcode == "copy":
        start = there[start.operands[0]]
    if start.opcode != "constant" or start.operands != ("0",):
        return None
    return int(end.operands[0])


def dot_flops(one: Instruction, there: Computation) -> float:
    """The FLOPs of a matrix product: 2 x number of results x product of the contracted lengths."""
    left = there[one.operands[0]].shapes[0].dims
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
    axes = [int(axis) for axis in contracted[1].split(",") if axis] if contracted else []
    return 2.0 * math.prod(one.shapes[0].dims) * math.prod(left[axis] for axis in axes)


def convolution_flops(one: Instruction, there: Computation) -> float:
    """The FLOPs of a convolution: 2 x its multiplications, without those by padding or dilation."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    assert labels is not None
    left, right, made = labels.groups()
    x, kernel = (there[name].shapes[0].dims for name in one.operands[:2])
    y = one.shapes[0].dims
    window = _window(one.attributes)
    spatial = [letter for letter in made if letter.isdigit()]
    products = 1
    for axis, letter in enumerate(spatial):
        taps = {key: values[axis] for key, values in window.items() if axis < len(values)}
        lengths = x[left.index(letter)], kernel[right.index(letter)], y[made.index(letter)]
        products *= _pairs(*lengths, **taps)
    outputs = y[made.index("b")] * y[made.index("f")]
    return 2.0 * outputs * kernel[right.index("i")] * products


def _window(attributes: str) -> dict[str, list[int]]:
    """The stride, lhs_dilate, rhs_dilate and (low) pad of a convolution, by spatial axis."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    parts = dict(part.split("=") for part in found[1].split()) if found else {}
    read: dict[str, list[int]] = {
        name: [int(v) for v in parts[name].split("x")]
        for name in ("stride", "lhs_dilate", "rhs_dilate")
        if name in parts
    }
    if "pad" in parts:
        read["pad"] = [int(v.split("_")[0]) for v in parts["pad"].split("x")]
    return read


@functools.cache
def _pairs(
    inputs: int,
    taps: int,
    outputs: int,
    *,
    stride: int = 1,
    pad: int = 0,
    lhs_dilate: int = 1,
    rhs_dilate: int = 1,
) -> int:
    """The number of pairs (output, tap) along one axis that use an input, not padding or holes."""
    last = (inputs - 1) * lhs_dilate
    count = 0
    for tap in range(taps):
        for output in range(outputs):
            place = output * stride + tap * rhs_dilate - pad
            count += 0 <= place <= last and place % lhs_dilate == 0
    return count


def collective(kind: str, one: Instruction, there: Computation) -> Collective:
    """A collective operation with its size and the devices that take part."""
    size = sum(s.size for name in one.operands if name in there for s in there[name].shapes)
    return Collective(kind, size, _group(one.attributes))


def _group(attributes: str) -> int:
    """The devices per group, from {{0,1},{2,3}}, [2,4]<=[8] or mesh['a'=8] {'a'}."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", attributes)
    if listed:
        return len(listed[1].split(","))
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]", attributes)
    if counted:
        return int(counted[1])
    named = re.search(r"replica_groups=mesh\[(.*?)\] \{(.*?)\}", attributes)
    if named:
        lengths = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(lengths[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", attributes)
    return 2 if pairs else 1
