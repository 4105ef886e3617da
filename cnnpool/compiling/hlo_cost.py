"""Floating-point operations, bytes and collectives of a compiled program, including its loops.

XLA's own `cost_analysis` counts the body of a loop once. Here, the cost of the body is multiplied
by the number of iterations, if the program determines it. A loop whose number of iterations is an
argument of the program (an open loop), such as the one over training steps, counts once.
"""

from collections.abc import Iterable
import dataclasses
import functools
import math
import re

from cnnpool.compiling import hlo_instructions
from cnnpool.compiling.hlo_instructions import Collective
from cnnpool.compiling.hlo_text import Computation, Instruction, Module, Stored, parse

_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "domain",
}
_CALLS = ("call", "async-start")
_CALLED = ("to_apply", "calls", "called_computations")
_CHANNEL = re.compile(r"\bchannel_id=(\d+)")
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclasses.dataclass(frozen=True)
class Cost:
    """The work of one device in a program.

    Attributes:
      flops: additions and multiplications in convolutions and matrix products.
      passes: `flops` times the number of bfloat16 products that the matrix unit computes for each
        product, by its precision.
      read: bytes read from the device's main memory, including padding.
      written: bytes written to it.
      collectives: its collective operations.
      loops: number of open loops, which are counted as one iteration.
    """

    flops: float = 0.0
    passes: float = 0.0
    read: float = 0.0
    written: float = 0.0
    collectives: tuple[Collective, ...] = ()
    loops: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        """The cost of both."""
        return Cost(
            self.flops + other.flops,
            self.passes + other.passes,
            self.read + other.read,
            self.written + other.written,
            self.collectives + other.collectives,
            self.loops + other.loops,
        )

    def __sub__(self, part: "Cost") -> "Cost":
        """The cost without that of a part."""
        rest = list(self.collectives)
        for one in part.collectives:
            rest.remove(one)
        return Cost(
            self.flops - part.flops,
            self.passes - part.passes,
            self.read - part.read,
            self.written - part.written,
            tuple(rest),
            self.loops - part.loops,
        )

    def __mul__(self, times: int) -> "Cost":
        """The cost of several executions."""
        return Cost(
            times * self.flops,
            times * self.passes,
            times * self.read,
            times * self.written,
            tuple(dataclasses.replace(c, count=times * c.count) for c in self.collectives),
            self.loops,
        )

    @property
    def moved(self) -> float:
        """Bytes read and written."""
        return self.read + self.written


def split(text: str) -> tuple[Cost, Cost]:
    """Splits the cost of a program into one iteration of its open loops and the rest of a call.

    An open loop is one whose number of iterations is an argument. For a program without open
    loops, the first is the cost of the whole call, and the second is zero.
    """
    module = parse(text)
    counter = _Counter(module)
    inside, whole = counter.open_loops(module.entry), counter.of(module.entry)
    return (inside, whole - inside) if whole.loops else (whole, Cost())


class _Counter:
    """The costs of a module's computations, each computed once and cached."""

    def __init__(self, module: Module):
        self._module = module
        self.of = functools.cache(self._of)

    def open_loops(self, name: str) -> Cost:
        """The cost of one iteration of every open loop."""
        there, total = self._module.computations[name], Cost()
        for one in there.values():
            if one.opcode == "while":
                times = hlo_instructions.trip_count(one, there, self._module)
                if times is None:
                    total += self._instruction(one, there, True)
                else:
                    total += sum(map(self.open_loops, one.called("body")), Cost()) * times
            elif one.opcode in _CALLS:
                total += sum(map(self.open_loops, one.called(*_CALLED)), Cost())
        return total

    def _of(self, name: str, *, memory: bool = True) -> Cost:
        computation = self._module.computations[name]
        total, counted = Cost(), set[str]()
        for one in computation.values():
            cost = self._instruction(one, computation, memory)
            channels = self._fused_channels(one)
            if channels & counted:
                cost = dataclasses.replace(cost, collectives=())
            counted |= channels
            total += cost
        return total

    def _fused_channels(self, one: Instruction) -> set[str]:
        """The channels of the collectives in a fusion.

        A TPU overlaps a collective with other work in three fusions, in which it starts, goes on
        and ends; each contains the collective with its channel.
        """
        if one.opcode != "fusion":
            return set()
        (inside,) = one.called("calls")
        attributes = (part.attributes for part in self._module.computations[inside].values())
        return {channel for text in attributes for channel in _CHANNEL.findall(text)}

    def _instruction(self, one: Instruction, there: Computation, memory: bool) -> Cost:
        kind = one.opcode
        if kind in _FREE or kind.endswith(("-done", "-update")):
            return Cost()
        if kind == "while":
            body = sum((self.of(c, memory=memory) for c in one.called("body", "condition")), Cost())
            times = hlo_instructions.trip_count(one, there, self._module)
            return body + Cost(loops=1) if times is None else body * times
        if kind == "conditional":
            branches = one.called("branch_computations", "true_computation", "false_computation")
            return max((self.of(b, memory=memory) for b in branches), key=_weight, default=Cost())
        if kind in _CALLS:
            called = one.called(*_CALLED)
            return sum((self.of(c, memory=memory) for c in called), Cost())
        moved = self._moved(one, there) if memory else Cost()
        if kind == "fusion":
            (inside,) = one.called("calls")
            return moved + self.of(inside, memory=False)
        base = kind.removesuffix("-start")
        if base in hlo_instructions.COLLECTIVES:
            return moved + Cost(collectives=(hlo_instructions.collective(base, one, there),))
        if kind == "convolution":
            flops = hlo_instructions.convolution_flops(one, there)
        elif kind == "dot":
            flops = hlo_instructions.dot_flops(one, there)
        else:
            return moved
        return moved + Cost(flops=flops, passes=flops * hlo_instructions.passes(one))

    def _moved(self, one: Instruction, there: Computation) -> Cost:
        """The bytes of operands and results in main memory; for slices, only the elements used."""
        read = 0.0
        for place, operand in enumerate(one.operands):
            if operand in there:
                read += min(_main(there[operand].shapes), self._read_of_operand(one, place, there))
        return Cost(read=read, written=self._written(one, there))

    def _read_of_operand(self, one: Instruction, place: int, there: Computation) -> float:
        whole = _main(there[one.operands[place]].shapes)
        if whole == 0:
            return 0.0
        if one.opcode in _SLICES and place == 0:
            return _cut_out(one, there[one.operands[0]], whole)
        if one.opcode in ("dynamic-update-slice", "scatter") and place == 0:
            return 0.0
        if one.opcode == "fusion":
            (inside,) = one.called("calls")
            return self._read_of_parameter(inside, place, whole)
        return whole

    def _read_of_parameter(self, name: str, number: int, whole: float) -> float:
        """The bytes that a fused computation reads of a parameter: all, or only slices of it."""
        computation = self._module.computations[name]
        parameter = next(
            one
            for one in computation.values()
            if one.opcode == "parameter" and one.operands == (str(number),)
        )
        names, total = [parameter.name], 0.0
        while names:
            source = names.pop()
            for user in computation.values():
                for place, operand in enumerate(user.operands):
                    if operand != source or user.opcode == "parameter":
                        continue
                    if user.opcode == "bitcast":
                        names.append(user.name)
                    elif user.opcode in _SLICES and place == 0:
                        total += _cut_out(user, parameter, whole)
                    elif user.opcode == "dynamic-update-slice" and place == 0:
                        continue
                    elif user.opcode == "fusion":
                        (inside,) = user.called("calls")
                        total += self._read_of_parameter(inside, place, whole)
                    else:
                        return whole
        return min(total, whole)

    def _written(self, one: Instruction, there: Computation) -> float:
        if one.opcode == "copy-start":  # its result is (copy, source, flag)
            return _main(one.shapes[:1])
        if one.opcode in ("dynamic-update-slice", "scatter"):
            update = there[one.operands[1 if one.opcode == "dynamic-update-slice" else 2]]
            return min(_main(one.shapes), sum(s.stored for s in update.shapes))
        if one.opcode != "fusion":
            return _main(one.shapes)
        (inside,) = one.called("calls")
        return self._written_by_fusion(one, inside)

    def _written_by_fusion(self, one: Instruction, name: str) -> float:
        """The bytes that a fusion writes; if it updates a slice in place, those of the slice."""
        computation = self._module.computations[name]
        root = next(i for i in computation.values() if i.root)
        parts = [computation[o] for o in root.operands] if root.opcode == "tuple" else [root]
        if len(parts) != len(one.shapes):
            return _main(one.shapes)
        written = 0.0
        for shape, part in zip(one.shapes, parts, strict=True):
            while part.opcode == "bitcast":
                part = computation[part.operands[0]]
            whole = _main([shape])
            if part.opcode == "dynamic-update-slice":
                update = computation[part.operands[1]]
                whole = min(whole, sum(s.stored for s in update.shapes))
            written += whole
        return written


def _weight(cost: Cost) -> float:
    return cost.passes + cost.moved


def _main(shapes: Iterable[Stored]) -> float:
    """The bytes of the arrays that are in main memory."""
    return float(sum(shape.stored for shape in shapes if shape.space == 0))


def _cut_out(one: Instruction, of: Instruction, whole: float) -> float:
    """Bytes that a slice or a gather reads of an array, whose own padding is counted.

    Inside a fusion the layout of what is cut out is nowhere in memory, and says nothing.
    """
    taken = sum(math.prod(shape.dims) for shape in one.shapes)
    return min(whole, whole * taken / sum(math.prod(shape.dims) for shape in of.shapes))
