"""Costs of training 1, 5 and 10 networks, from benchmarks/tpu_compile.json."""

from collections.abc import Iterable, Mapping, Sequence
import json
import math
from pathlib import Path
import re
import statistics
from typing import Any, NamedTuple

from benchmarks.tpu_compile import CASES, Case
from cnnpool.compiling.table import number

ROWS = Path(__file__).parent / "tpu_compile.json"
NETWORKS = (1, 5, 10)


class Step(NamedTuple):
    """A step of several networks on eight chips, in rounds if the mesh holds fewer of them.

    Attributes:
      case: the compiled case.
      row: its row, with the costs of one chip.
      networks: number of networks to train.
    """

    case: Case
    row: Mapping[str, Any]
    networks: int

    @property
    def rounds(self) -> int:
        """Number of groups of networks, trained one after the other."""
        return math.ceil(self.networks / self.case.seed)

    @property
    def bound(self) -> float:
        """Lower bound on the time of a step of all networks, in seconds."""
        return self.rounds * self.row["bound"]

    @property
    def collectives(self) -> int:
        """Number of collectives in a step of all networks."""
        return self.rounds * sum(map(int, re.findall(r"\d+", self.row["collectives"])))


def kept() -> dict[str, dict[str, Any]]:
    """The rows of the programs that could be compiled, by key."""
    rows = json.loads(ROWS.read_text("utf-8"))
    return {key: row for key, row in rows.items() if "error" not in row}


def steps(name: str, data: str, networks: int) -> list[Step]:
    """The steps of one of the paper's networks, on every mesh for which it was compiled."""
    rows = kept()
    return [
        Step(case, rows[case.key], networks)
        for case in CASES
        if (case.network, case.data) == (name, data) and case.key in rows
        if case.width == 1 or data == "scale1d"
    ]


def best(found: Sequence[Step], latency: float) -> Step:
    """The step with the smallest bound, with `latency` seconds added per collective."""
    return min(found, key=lambda one: one.bound + latency * one.collectives)


def columns() -> tuple[str, ...]:
    """Names of the columns of `lines`."""
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
    """The best mesh for 1, 5 and 10 networks; nothing if no mesh was compiled."""
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


def compile_times(data: str) -> Iterable[tuple[str, ...]]:
    """For every mesh, the network that took least, the median, and the one that took most CPU time.

    Args:
      data: cifar10 or scale2d.
    """
    rows = kept()
    cases = [one for one in CASES if one.data == data and one.key in rows and one.width == 1]
    for mesh in dict.fromkeys(map(_mesh, cases)):
        own = [one for one in cases if _mesh(one) == mesh]
        spent = sorted((rows[one.key]["cpu"], one.network) for one in own)
        first, last = (f"{name}, {number(cpu)}" for cpu, name in (spent[0], spent[-1]))
        median = statistics.median(cpu for cpu, _ in spent)
        yield data, mesh, str(len(own)), first, number(median), last


def _mesh(case: Case) -> str:
    return f"{case.seed} x {case.shared}"


def chip_seconds(name: str, data: str) -> tuple[float, float] | None:
    """Chip seconds for a step of one network: the bound, and products alone at peak speed.

    The bound is that of one network per chip. If that was not compiled, it is products alone,
    because the cost of sharing a batch depends on the mesh. None if nothing was compiled.
    """
    found = steps(name, data, 1)
    if not found:
        return None
    products = min(one.case.shared * one.row["products"] for one in found)
    alone = [one.row["bound"] for one in found if one.case.shared == 1]
    return min(alone, default=products), products
