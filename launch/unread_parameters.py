"""Rejects sweeps that vary a config field which their training does not read.

Jobs that differ only in such fields would be trained and drawn as if they were different networks.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cnnpool.launch.jobs import Job, SweepError
from cnnpool.runs import run_config, unread_fields

_SHOWN_JOBS = 3


class _Unread(NamedTuple):
    """A job that does not read a field.

    Attributes:
      job: the job.
      value: the value of the field in its config.
      why: the reason why it does not read the field.
    """

    job: Job
    value: Any
    why: str


def check(jobs: Sequence[Job]) -> None:
    """Raises SweepError if jobs differ in a field that they do not read; names field and jobs.

    Jobs on different data sets have different configs, and are not compared.
    """
    for (_, field), found in _by_data_and_field(jobs).items():
        values = dict.fromkeys(repr(one.value) for one in found)
        if len(values) > 1:
            raise SweepError(
                f"the sweep varies {field} ({', '.join(values)}), but {found[0].why}. Use a single "
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
    """A note on jobs that would train the same networks although their configs differ, or None.

    Only the first of these jobs is run; see `launch.jobs.unique`.
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
        f"jobs that differ only in {', '.join(fields)}, which has no effect on networks, are "
        f"merged: {_named(same.values())} with the first value"
    )


def _named(jobs: Iterable[Job]) -> str:
    names = list(dict.fromkeys(job.name for job in jobs))
    more = [f"{len(names) - _SHOWN_JOBS} more"] if len(names) > _SHOWN_JOBS else []
    return ", ".join(names[:_SHOWN_JOBS] + more)
