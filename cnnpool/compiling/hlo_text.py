"""Parses the text of a compiled program into instructions and the memory of their arrays.

The format is XLA's HLO text, as returned by `jax.jit(f).lower(...).compile().as_text()`; see
https://openxla.org/xla/operation_semantics and https://openxla.org/xla/tiled_layout.
"""

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

_BYTES = {"pred": 1, "bf16": 2, "token": 0, "opaque": 0}  # other names end with their bit width
_ARRAY = re.compile(r"(\w+)\[([\d,<= ]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_COMMENT = re.compile(r"/\*.*?\*/")
_NAME = re.compile(r"%([\w.\-]+)")


class Stored(NamedTuple):
    """An array of a compiled program.

    Attributes:
      dtype: HLO's name of the dtype, e.g. f32.
      dims: lengths of its axes.
      size: bytes without padding to whole tiles.
      stored: bytes with that padding.
      space: memory space; 0 is the device's main memory, others are on the chip.
    """

    dtype: str
    dims: tuple[int, ...]
    size: int
    stored: int
    space: int


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name: its name, without the percent sign.
      opcode: the operation, e.g. convolution.
      shapes: the arrays of its result; several if the result is a tuple.
      operands: names of instructions in the same computation; for a parameter, its number.
      attributes: the rest of the line.
      root: whether its result is the result of its computation.
    """

    name: str
    opcode: str
    shapes: tuple[Stored, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def called(self, *fields: str) -> list[str]:
        """The names of the computations in the given attributes, such as body or calls."""
        found: list[str] = []
        for field in fields:
            match = re.search(rf"\b{field}=(?:%([\w.\-]+)|\{{([^}}]*)\}})", self.attributes)
            if match:
                found += [match[1]] if match[1] else _NAME.findall(match[2])
        return found


Computation = dict[str, Instruction]


class Module(NamedTuple):
    """A compiled program: its computations by name, and the name of its entry computation."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Parses the text of a compiled program.

    Raises:
      ValueError: if the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    current: Computation | None = None
    entry = ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" ") and "(" in line:
            head = line.removeprefix("ENTRY").strip()
            name = head.split(" ")[0].split("(")[0].removeprefix("%")
            current = computations[name] = {}
            if line.startswith("ENTRY"):
                entry = name
        elif line.startswith("}"):
            current = None
        elif current is not None and " = " in line:
            one = _instruction(line)
            current[one.name] = one
    if not entry:
        raise ValueError("expected the text of a compiled program, found no ENTRY computation")
    return Module(computations, entry)


def _instruction(line: str) -> Instruction:
    left, right = _COMMENT.sub("", line).strip().split(" = ", 1)
    shape, rest = _cut(right)
    opcode, rest = rest.strip().split("(", 1)
    inside, attributes = _cut("(" + rest)
    operands = tuple(_NAME.findall(inside)) or tuple(inside.strip("()").split(","))
    return Instruction(
        name=left.removeprefix("ROOT ").removeprefix("%"),
        opcode=opcode,
        shapes=tuple(arrays(shape)),
        operands=operands,
        attributes=attributes,
        root=left.startswith("ROOT "),
    )


def _cut(text: str) -> tuple[str, str]:
    """Splits text after its first word, or after its first group in parentheses."""
    if not text.startswith("("):
        word, _, rest = text.partition(" ")
        return word, rest
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f"a parenthesis is not closed: {text[:80]}")


def arrays(shape: str) -> Iterator[Stored]:
    """The arrays in the text of a shape, which is a single array or a tuple.

    For example, f32[16,10]{0,1:T(8,128)S(1)} varies fastest along its first axis, is stored in
    tiles of 8 x 128 values, and is in memory space 1.
    """
    for dtype, dims, layout in _ARRAY.findall(shape):
        lengths = tuple(int(d.strip().removeprefix("<=")) for d in dims.split(",") if d.strip())
        width = _BYTES.get(dtype)
        if width is None:
            width = max(1, int(re.findall(r"\d+", dtype)[0]) // 8)
        space = _SPACE.search(layout)
        yield Stored(
            dtype,
            lengths,
            width * math.prod(lengths),
            width * math.prod(_padded(lengths, layout)),
            int(space[1]) if space else 0,
        )


def _padded(dims: tuple[int, ...], layout: str) -> list[int]:
    """The lengths of the axes, from slowest to fastest, padded to whole tiles."""
    order, _, rest = layout.partition(":")
    fastest_first = [int(axis) for axis in order.split(",") if axis]
    lengths = [dims[axis] for axis in reversed(fastest_first)] if fastest_first else list(dims)
    found = _TILE.search(rest)
    if found and lengths:
        tile = [int(t) for t in found[1].split(",")][-len(lengths) :]
        for axis, length in zip(range(-len(tile), 0), tile, strict=True):
            lengths[axis] = -(-lengths[axis] // length) * length
    return lengths
