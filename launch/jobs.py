"""A job of a sweep: networks to train and their measurements, named by its config."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import hashlib
import json
from pathlib import Path
import re
from typing import Any

from cnnpool import extras
from cnnpool.errors import CnnpoolError, check_known
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_text
from cnnpool.launch.measurement import BOTH, Measurement
from cnnpool.runs import run_config

with extras.needed("train"):
    from ml_collections import ConfigDict

SPEC_VERSION = 1
LONGEST_PREFIX = 80


class SweepError(CnnpoolError):
    """A sweep, or one of its jobs, is invalid or damaged."""


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """Networks of one config, trained by one process (or one group of processes).

    Attributes:
      config: a complete and locked config, from a file in `configs/`.
      measurements: the measurements of the trained networks.
    """

    config: ConfigDict
    measurements: tuple[Measurement, ...] = (BOTH,)

    def __post_init__(self):
        """Raises SweepError for errors that would otherwise appear only after training."""
        if not isinstance(self.config, ConfigDict):
            raise SweepError(
                "a job's config must be returned by get_config(preset) of a file in configs/, got "
                f"{self.config!r}"
            )
        if not self.config.seeds:
            raise SweepError(f"{self.network}: expected one seed or more, seeds=(0,), got none")
        measurements = self.measurements if isinstance(self.measurements, tuple) else ()
        if not measurements or not all(isinstance(one, Measurement) for one in measurements):
            raise SweepError(
                f"{self.network}: measurements must be a tuple of "
                f"cnnpool.launch.measurement.Measurement, (BOTH,), got {self.measurements!r}"
            )
        for one in measurements:
            self._checked(one, one.check_settings)

    def check_names(self) -> None:
        """Raises SweepError if a stage, transform or layer to measure is unknown."""
        for one in self.measurements:
            self._checked(one, one.check_names)

    def _checked(self, one: Measurement, check: Callable[[ConfigDict], None]) -> None:
        try:
            check(self.config)
        except (TypeError, ValueError) as error:
            what = f"measurement {one.name!r}" if one.name else "measurement"
            raise SweepError(f"{self.network}: {what}: {error}") from error

    @property
    def name(self) -> str:
        """The name of its folder, with a digest of all fields that define the trained networks."""
        return f"{self.network}-{_range(self.config.seeds)}-{_digest(self._defining())}"

    @property
    def network(self) -> str:
        """The name of its network, usable in file names."""
        return network_name(self.config)

    @property
    def group(self) -> str:
        """A name that is the same for all jobs that differ only in their seeds."""
        return f"{self.network}-{_digest(self._defining() | {'seeds': None})}"

    def _defining(self) -> dict[str, Any]:
        fields = run_config.defining_fields(self.config)
        fields["keep_epochs"] = list(self.config.checkpoint.keep_epochs)
        if "measurement" in self.config:
            fields["measurement"] = self.config.measurement.to_dict()
        if has_own_data(self.config):
            fields["data_dir"] = self.config.data.data_dir
        return fields

    def split(self, seeds_per_job: int | None) -> "list[Job]":
        """Splits the job into jobs of at most `seeds_per_job` seeds; None: one job."""
        seeds = tuple(self.config.seeds)
        size = len(seeds) if seeds_per_job is None else seeds_per_job
        if size < 1:
            raise SweepError(f"--seeds_per_job must be at least 1, got {seeds_per_job}")
        parts = [seeds[start : start + size] for start in range(0, len(seeds), size)]
        return [
            dataclasses.replace(self, config=with_fields(self.config, seeds=part)) for part in parts
        ]

    def with_data_dir(self, data_dir: str | None) -> "Job":
        """The same job with another data folder; unchanged if its data is generated."""
        if data_dir is None or "data_dir" not in self.config.data:
            return self
        place = str(storage.on_disk(data_dir).absolute())
        config = run_config.with_data_dir(self.config, place).lock()
        return dataclasses.replace(self, config=config)

    def is_finished(self, folder: Path) -> bool:
        """Whether all its result files exist; they are written atomically."""
        return all((folder / one.file).is_file() for one in self.measurements)

    def write_spec(self, folder: Path) -> Path:
        """Writes the spec for `launch.run_job` into the job's folder; returns its path."""
        path = self.spec_path(folder)
        write_text(path, self._spec + "\n")
        return path

    def spec_path(self, folder: Path) -> Path:
        """The path of the file that `write_spec` writes."""
        return folder / f"spec-{hashlib.sha256(self._spec.encode()).hexdigest()[:8]}.json"

    @property
    def _spec(self) -> str:
        spec = {
            "version": SPEC_VERSION,
            "config": self.config.to_dict(),
            "measurements": [dataclasses.asdict(one) for one in self.measurements],
        }
        return json.dumps(spec, indent=2, sort_keys=True)


def has_own_data(config: ConfigDict) -> bool:
    """Whether the data is whatever `data_dir` contains, not a set that is the same everywhere."""
    return config.data.name == "arrays"


def network_name(config: ConfigDict) -> str:
    """The name of a config's network: DATA-MODEL, with width and noise unless these are default."""
    data, model = config.data, config.model
    parts = [data.name, model.name]
    if "width_factor" in model and model.width_factor != 1:
        parts.append(f"width{model.width_factor:g}")
    if "image_noise" in data and data.image_noise:
        parts.append(f"noise{data.image_noise:g}")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)[:LONGEST_PREFIX]).lstrip(".-")


def read_spec(path: Path) -> Job:
    """Reads the job in a spec file.

    Raises:
      SweepError: if the file is absent, damaged or not a spec.
    """
    try:
        spec = json.loads(path.read_text("utf-8"))
        check_known(str(spec["version"]), [str(SPEC_VERSION)], f"{path}: version")
        measurements = tuple(
            Measurement(
                one["name"],
                tuple(one["stages"]),
                tuple(one["transforms"]),
                tuple((key, _tuples(value)) for key, value in one["settings"]),
            )
            for one in spec["measurements"]
        )
        return Job(run_config.from_dict(spec["config"]), measurements)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SweepError(
            f"{path} is not the spec of a job ({type(error).__name__}: {error}); expected a file "
            "written by `python -m launch.sweep`"
        ) from error


def with_fields(config: ConfigDict, **fields: Any) -> ConfigDict:
    """A locked copy of a config with other values: `section__field=value` for nested fields.

    Raises:
      SweepError: if the config has no such field.
    """
    copy = config.copy_and_resolve_references()
    for path, value in fields.items():
        *sections, name = path.split("__")
        section = copy
        for part in (*sections, name):
            if part not in section:
                raise SweepError(
                    f"{path.replace('__', '.')}: no such field; expected one of {sorted(section)}, "
                    f"got {part!r}"
                )
            section = section if part == name else section[part]
        section[name] = value
    return copy.lock()


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Merges jobs that train the same networks into one with all their measurements."""
    by_name: dict[str, Job] = {}
    for job in jobs:
        other = by_name.get(job.name)
        if other is not None:
            both = dict.fromkeys((*other.measurements, *job.measurements))
            job = dataclasses.replace(other, measurements=tuple(both))
        by_name[job.name] = job
    return list(by_name.values())


def _range(seeds: Sequence[int]) -> str:
    return f"s{seeds[0]}" if len(seeds) == 1 else f"s{seeds[0]}_{seeds[-1]}"


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:10]


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
