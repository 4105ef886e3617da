"""What a sweep varies and its trainings do not read: refused before anything starts.

Jobs that differ in them alone would be trained and drawn as if they were different networks.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cnnpool.launch.jobs import Job, SweepError
from cnnpool.runs import run_config, unread_fields

_SHOWN_JOBS = 3


class _Unread(NamedTuple):
    """A job that does not read a field.

    Attributes:
      job: which.
      value: of the field in its config.
      why: it does not read it.
    """

    job: Job
    value: Any
    why: str


def check(jobs: Sequence[Job]) -> None:
    """Raises SweepError if jobs differ in a field that they do not read, naming field and jobs.

    Jobs on different data come from different configs, and are not compared.
    """
    for (_, field), found in _by_data_and_field(jobs).items():
        values = dict.fromkeys(repr(one.value) for one in found)
        if len(values) > 1:
            raise SweepError(
                f"the sweep varies {field} ({', '.join(values)}), but {found[0].why}: give it one "
                f"value in {_named(one.job for one in found)}"
            )


def _by_data_and_field(jobs: Sequence[Job]) -> dict[tuple[str, str], list[_Unread]]:
    found: dict[tuple[str, str], list[_Unread]] = {}
    for job in jobs:
        for field, why in unread_fields.unread(job.config).items():
            section, _, name = field.partition(".")
            one = _Unread(job, job.config[section][name], why)
            found.setdefault((job.config.data.name, field), []).append(one)
    return found


def merged(jobs: Sequence[Job]) -> str | None:
    """What to tell of jobs that would train the same networks although their configs differ.

    Only the first of them is run, see `launch.jobs.unique`; None where there are none.
    """
    first: dict[str, Job] = {}
    same: dict[str, Job] = {}
    fields: dict[str, None] = {}
    for job in jobs:
        other = first.setdefault(job.name, job)
        changed = run_config.differences(other.config.to_dict(), job.config.to_dict())
        if changed:
            same[job.name] = other
            fields |= dict.fromkeys(one.partition(":")[0] for one in changed)
    if not same:
        return None
    return (
        f"jobs that differ only in {', '.join(fields)}, which changes no network, are one: "
        f"{_named(same.values())} with the first value"
    )


def _named(jobs: Iterable[Job]) -> str:
    names = list(dict.fromkeys(job.name for job in jobs))
    more = [f"{len(names) - _SHOWN_JOBS} more"] if len(names) > _SHOWN_JOBS else []
    return ", ".join(names[:_SHOWN_JOBS] + more)
