"""A table of compiled programs, for a terminal or a page."""

from collections.abc import Iterable, Sequence

from cnnpool.compiling.bound import bound
from cnnpool.compiling.chips import Chip
from cnnpool.compiling.hlo_cost import Cost
from cnnpool.compiling.programs import Compiled

COLUMNS = (
    "program",
    "per",
    "lowering + compiling, s",
    "arguments, MiB",
    "outputs",
    "temporaries",
    "of memory",
    "collectives",
    "their MB",
    "GFLOP",
    "MB read",
    "written",
    "bound, ms",
    "by",
)


def row(one: Compiled, chip: Chip | None) -> tuple[str, ...]:
    """One program's row of the table; without a chip, its memory share and bound are "-"."""
    memory, cost = one.memory, one.cost
    sizes = (memory.arguments, memory.outputs, memory.temporaries)
    limits = ("-", "-", "-")
    if chip is not None:
        least = bound(cost, chip)
        limits = f"{memory.total / chip.memory:.1%}", number(1e3 * least.seconds), least.binds
    return (
        one.name,
        one.unit,
        f"{one.lowering:.0f} + {one.compiling:.0f}",
        *(number(size / 2**20) for size in sizes),
        limits[0],
        collectives(cost),
        number(sum(c.count * c.size for c in cost.collectives) / 1e6),
        number(cost.flops / 1e9),
        number(cost.read / 1e6),
        number(cost.written / 1e6),
        *limits[1:],
    )


def collectives(cost: Cost) -> str:
    """The number of collectives of each kind, as text."""
    counts: dict[str, int] = {}
    for one in cost.collectives:
        counts[one.kind] = counts.get(one.kind, 0) + one.count
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none"


def number(value: float) -> str:
    """A number with about three significant digits."""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"


def text(compiled: Sequence[Compiled], chip: Chip | None) -> str:
    """The table as text with aligned columns."""
    lines = [COLUMNS, *(row(one, chip) for one in compiled)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [word.ljust(w) if i < 2 else word.rjust(w) for i, (word, w) in enumerate(pairs)]
        ).rstrip()
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def notes(compiled: Iterable[Compiled], chip: Chip | None) -> list[str]:
    """Notes below the table: the cost of calls outside main loops, and the source of the peaks."""
    said = []
    for one in compiled:
        if one.around.moved and chip is not None and one.cost.loops:
            extra = 1e3 * bound(one.around, chip).seconds
            said.append(
                f"{one.name}: outside of the loop over {one.unit}, a call takes at least another "
                f"{number(extra)} ms: it reads {number(one.around.read / 1e6)} MB and writes "
                f"{number(one.around.written / 1e6)} MB."
            )
        if any(c.kind == "send" for c in one.cost.collectives):
            said.append(f"{one.name}: what it sends to other slices is not in its bound.")
    if chip is not None:
        said.append(
            f"Bound: from {chip.peak / 1e12:g} TFLOP/s for bfloat16 products, "
            f"{chip.bandwidth / 1e9:g} GB/s of memory bandwidth and two links of "
            f"{chip.link / 1e9:g} GB/s, as published at {chip.source}. The programs were compiled "
            "by the TPU compiler, not run on a TPU."
        )
    return said
