"""What the compiled steps of benchmarks/tpu_compile.json say of one, five and ten networks."""

from collections.abc import Iterable, Mapping, Sequence
import json
import math
from pathlib import Path
import re
from typing import Any, NamedTuple

from benchmarks.tpu_compile import CASES, Case
from cnnpool.compiling.table import number

ROWS = Path(__file__).parent / "tpu_compile.json"
NETWORKS = (1, 5, 10)


class Step(NamedTuple):
    """A step of some networks on eight chips, in rounds of as many as the mesh takes.

    Attributes:
      case: that was compiled.
      row: what a chip does in it.
      networks: that are trained.
    """

    case: Case
    row: Mapping[str, Any]
    networks: int

    @property
    def rounds(self) -> int:
        """Groups of networks, one after the other."""
        return math.ceil(self.networks / self.case.seed)

    @property
    def bound(self) -> float:
        """Seconds that a step of all networks takes at least."""
        return self.rounds * self.row["bound"]

    @property
    def collectives(self) -> int:
        """Of a step of all networks, one after the other."""
        return self.rounds * sum(map(int, re.findall(r"\d+", self.row["collectives"])))


def kept() -> dict[str, dict[str, Any]]:
    """The rows by key, of programs that were compiled."""
    rows = json.loads(ROWS.read_text("utf-8"))
    return {key: row for key, row in rows.items() if "error" not in row}


def steps(name: str, data: str, networks: int) -> list[Step]:
    """Of a network of the paper on every mesh that was compiled for it."""
    rows = kept()
    return [
        Step(case, rows[case.key], networks)
        for case in CASES
        if (case.network, case.data) == (name, data) and case.key in rows
        if case.width == 1 or data == "scale1d"
    ]


def best(found: Sequence[Step], latency: float) -> Step:
    """The mesh with the smallest bound, so many seconds added for every collective."""
    return min(found, key=lambda one: one.bound + latency * one.collectives)


def columns() -> tuple[str, ...]:
    """Of `lines`."""
    return (
        "run",
        "networks",
        "best mesh",
        "of meshes",
        "memory of a chip, MiB",
        "GFLOP",
        "MB moved",
        "collectives",
        "bound, ms",
        "by",
        "with latency, ms",
    )


def lines(name: str, data: str, latency: float) -> Iterable[tuple[str, ...]]:
    """The best mesh of a network for 1, 5 and 10 of it; none where nothing was compiled."""
    for networks in NETWORKS:
        found = steps(name, data, networks)
        if not found:
            return
        one = best(found, latency)
        size = (one.row["arguments"] + one.row["temporaries"]) / 2**20
        yield (
            f"{data}-{name}",
            str(networks),
            _mesh(one.case) + (f", {one.rounds} rounds" if one.rounds > 1 else ""),
            ", ".join(_mesh(other.case) for other in found),
            number(size),
            number(one.rounds * one.row["flops"] / 1e9),
            number(one.rounds * one.row["moved"] / 1e6),
            str(one.collectives),
            number(1e3 * one.bound),
            one.row["binds"],
            number(1e3 * (one.bound + latency * one.collectives)),
        )


def _mesh(case: Case) -> str:
    return f"{case.seed} x {case.shared}"


def chip_seconds(name: str, data: str) -> tuple[float, float] | None:
    """Of a step of one network: the bound, and products alone at the peak; None if unknown.

    The bound is that of a network on one chip, where that was compiled; of others products alone,
    as what a shared batch adds is of its mesh.
    """
    found = steps(name, data, 1)
    if not found:
        return None
    products = min(one.case.shared * one.row["products"] for one in found)
    alone = [one.row["bound"] for one in found if one.case.shared == 1]
    return min(alone, default=products), products
