"""The parameters that a sweep varies, for each of its jobs: lr=0.05,batch=64."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnnpool.files import parameter_words
from cnnpool.launch.jobs import Job, has_own_data

_NOT_VARIED = ("seeds", "runtime", "checkpoint")  # properties of jobs, not of networks
_DATA_DIR = "data.data_dir"
_IN_NETWORK_NAME = ("data", "model", "width_factor", "image_noise")
_SECTION_NAMES = "name"  # the parameter model.name is called model


class Varied(NamedTuple):
    """The parameters that differ between the jobs of a sweep.

    Attributes:
      fields: {name: field of the config}, such as {"learning_rate": "training.learning_rate"}.
      places: {job's name: {name: value}}; the value is None if the job's config has no such field.
    """

    fields: dict[str, str]
    places: dict[str, dict[str, Any]]


def varied(jobs: Sequence[Job]) -> Varied:
    """The config fields in which jobs differ, except seeds, runtime and checkpoint settings."""
    flat = {job.name: _fields(job) for job in jobs}
    paths = dict.fromkeys(path for fields in flat.values() for path in fields)
    differing = [
        path for path in paths if len({repr(fields.get(path)) for fields in flat.values()}) > 1
    ]
    names = _names(sorted(differing, key=_place))
    places = {
        job: {name: fields.get(path) for path, name in names.items()}
        for job, fields in flat.items()
    }
    return Varied({name: path for path, name in names.items()}, places)


def _place(path: str) -> int:
    first = list(parameter_words.SHORT)
    name = path.rpartition(".")[2]
    return first.index(name) if name in first else len(first)


def _fields(job: Job) -> dict[str, Any]:
    found = _flat(job.config.to_dict())
    return found if has_own_data(job.config) else found | {_DATA_DIR: None}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in fields.items():
        path = f"{prefix}{key}"
        if path in _NOT_VARIED:
            continue
        found |= _flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Short names: the field, or the section for SECTION.name; SECTION_FIELD if not unique."""
    short = {path: _short(path) for path in paths}
    counts = list(short.values())
    return {
        path: name if counts.count(name) == 1 else path.replace(".", "_")
        for path, name in short.items()
    }


def _short(path: str) -> str:
    *sections, name = path.split(".")
    return sections[-1] if name == _SECTION_NAMES and sections else name


def words(place: Mapping[str, Any]) -> str:
    """The parameters of a job as text, without those that it does not have."""
    return parameter_words.words({n: v for n, v in place.items() if v is not None})


def beside_network(place: Mapping[str, Any]) -> str:
    """The parameters that are not part of `launch.jobs.network_name`, as text."""
    return words({name: value for name, value in place.items() if name not in _IN_NETWORK_NAME})


def table(shown: Sequence[Job], jobs: Sequence[Job]) -> str:
    """One line per job with the parameters that the sweep varies; empty if it varies none.

    Args:
      shown: the jobs in the table.
      jobs: all jobs of the sweep.
    """
    found = varied(jobs)
    if not found.fields or not shown:
        return ""
    lines = [(words(found.places[job.name]), job.name) for job in shown]
    width = max(len(text) for text, _ in lines)
    return "\n".join(["parameters of the jobs:"] + [f"  {t:{width}}  {n}" for t, n in lines])
