"""Where the files of results/ come from, as data: provenance.toml.

One table for each set of files that were made in the same way:

    [[record]]
    what = "Scale detection, full protocol, on an H200"
    files = ["networks/scale2d-{name}.nc"]
    config = "configs/scale2d.py"
    commands = [
      "python -m cnnpool.eval --workdir=runs/{name} --out=results/networks/scale2d-{name}.nc",
    ]
    each = [{name = "alexnet"}, {name = "vgg11"}]
    trained_at = "2add252"
    measured_at = "2add252"
    hardware = "NVIDIA H200"
    time = "2 to 5 min each"
    note = "Trained in TF32."

`files` are relative to the folder of provenance.toml; one that ends with / stands for all that is
below it. `each` is optional: files and commands are written once for each of its entries, with what
stands in braces replaced. A file belongs to exactly one record.
"""

from collections.abc import Iterable, Sequence
import dataclasses
from pathlib import Path
from typing import Any

from cnnpool.figures.toml_tables import check_fields, check_list, check_text, read_tables


@dataclasses.dataclass(frozen=True)
class Run:
    """Files, and the commands that make them, in order."""

    files: tuple[str, ...]
    commands: tuple[str, ...]

    def holds(self, file: str) -> bool:
        """Whether it made a file, named relative to the folder of provenance.toml."""
        return any(file.startswith(one) if one.endswith("/") else file == one for one in self.files)


@dataclasses.dataclass(frozen=True)
class _Fields:
    """What a [[record]] may hold."""

    what: str
    files: Sequence
    commands: Sequence
    each: Sequence = ()
    config: str = ""
    trained_at: str = ""
    measured_at: str = ""
    hardware: str = ""
    time: str = ""
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Record:
    """Files that were made in the same way.

    Attributes:
      what: what they hold.
      runs: the runs of its commands, one for each entry of `each`.
      config: the config of the training.
      trained_at: the commits of this project that trained them.
      measured_at: the commits of this project that measured them.
      hardware: the hardware it ran on.
      time: the time it took.
      note: what else must be known.
    """

    what: str
    runs: tuple[Run, ...]
    config: str
    trained_at: str
    measured_at: str
    hardware: str
    time: str
    note: str

    @property
    def files(self) -> tuple[str, ...]:
        """All files and folders, each once."""
        return tuple(dict.fromkeys(file for run in self.runs for file in run.files))

    @property
    def commands(self) -> tuple[str, ...]:
        """All commands, each once."""
        return tuple(dict.fromkeys(one for run in self.runs for one in run.commands))

    def holds(self, file: str) -> bool:
        """Whether it is this record that names a file."""
        return any(run.holds(file) for run in self.runs)

    def commands_of(self, file: str) -> tuple[str, ...]:
        """The commands of the runs that made a file."""
        made_by = (run for run in self.runs if run.holds(file))
        return tuple(dict.fromkeys(one for run in made_by for one in run.commands))


def read_records(path: Path) -> list[Record]:
    """The records of a provenance.toml.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if it is no TOML, or a record lacks a field or has a wrong one.
    """
    found = read_tables(path, "record")
    return [_record(fields, f"{path}, record {n}") for n, fields in enumerate(found, start=1)]


def record_of(file: str, records: Iterable[Record]) -> Record:
    """The one record that names a file.

    Raises:
      ValueError: if there is none, or more than one.
    """
    found = [record for record in records if record.holds(file)]
    if len(found) != 1:
        names = "; ".join(record.what for record in found) or "none"
        raise ValueError(f"{file}: expected exactly one record of provenance.toml; got {names}")
    return found[0]


def _record(fields: Any, where: str) -> Record:
    check_fields(fields, _Fields, where)
    lists = {"files", "commands", "each"}
    for name in fields.keys() - lists:
        check_text(fields[name], f"{where}: {name}")
    for name in lists:
        check_list(fields.get(name, []), f"{where}: {name}")
    for name in ("files", "commands"):
        if not fields[name]:
            raise ValueError(f"{where}: {name} must not be empty")
        for text in fields[name]:
            check_text(text, f"{where}: {name}")
    given = _Fields(**fields)
    runs = tuple(
        Run(_filled(given.files, values, where), _filled(given.commands, values, where))
        for values in given.each or [{}]
    )
    others = {name: getattr(given, name) for name in _Fields.__annotations__ if name not in lists}
    return Record(runs=runs, **others)


def _filled(texts: Sequence[str], values: Any, where: str) -> tuple[str, ...]:
    try:
        return tuple(text.format_map(values) for text in texts)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: what stands in braces must be named in each entry of each; got {values!r}"
        ) from error
