"""What the jobs of a sweep have measured; seeds that were trained separately are combined."""

from collections import Counter
from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from cnnpool.files import results, sweep_parameters
from cnnpool.launch import job_parameters
from cnnpool.launch.job_parameters import Varied
from cnnpool.launch.jobs import Job, SweepError
from cnnpool.launch.measurement import Measurement


class Collected(NamedTuple):
    """The results of a sweep.

    Attributes:
      networks: {name of the netCDF group: dataset}; the parameters that the sweep varies are
        scalar coordinates.
      missing: names of jobs that are not finished.
      damaged: error messages for the result files that cannot be read.
    """

    networks: dict[str, xr.Dataset]
    missing: list[str]
    damaged: list[str]


def collected(jobs: Sequence[Job], root: Path) -> Collected:
    """Reads all results of jobs.

    Args:
      jobs: the jobs of a sweep.
      root: the folder that contains the jobs' folders.

    Raises:
      SweepError: if the parts of a network do not match.
    """
    varied = job_parameters.varied(jobs)
    names = _group_names(jobs, varied)
    parts: dict[str, list[xr.Dataset]] = {}
    missing, damaged = [], []
    for job in jobs:
        folder = root / job.name
        if not job.is_finished(folder):
            missing.append(job.name)
            continue
        for one in job.measurements:
            try:
                found = results.read(folder / one.file)
            except results.ResultsError as error:
                damaged.append(str(error))
            else:
                parts.setdefault(names[job.group, one], []).append(found)
    networks = {name: one_network(found, name) for name, found in parts.items()}
    places = {
        names[job.group, one]: varied.places[job.name] for job in jobs for one in job.measurements
    }
    networks = {
        name: sweep_parameters.with_parameters(
            dataset, {n: v for n, v in places[name].items() if v is not None}, varied.fields
        )
        for name, dataset in networks.items()
    }
    return Collected(networks, missing, damaged)


def _group_names(jobs: Sequence[Job], varied: Varied) -> dict[tuple[str, Measurement], str]:
    """Names of netCDF groups: the values that the sweep varies, and a digest if not unique."""
    said = {job.group: job_parameters.beside_network(varied.places[job.name]) for job in jobs}
    readable = {
        job.group: f"{job.network}-{said[job.group].replace('/', '_')}"
        for job in jobs
        if said[job.group]
    }
    counts = Counter(readable.values())
    groups = {group: name for group, name in readable.items() if counts[name] == 1}
    pairs = list(dict.fromkeys((job.group, one) for job in jobs for one in job.measurements))
    short = [
        "-".join(part for part in (groups.get(group, group), one.name) if part)
        for group, one in pairs
    ]
    counts = Counter(short)
    return {
        pair: name if counts[name] == 1 else f"{name}-{pair[1].digest}"
        for pair, name in zip(pairs, short, strict=True)
    }


def one_network(parts: Sequence[xr.Dataset], name: str) -> xr.Dataset:
    """Combines seeds of one network that were measured separately, in order.

    Raises:
      SweepError: if they differ in more than their seeds, or contain a seed twice.
    """
    if len(parts) == 1:
        return parts[0]
    counts = Counter(int(seed) for part in parts for seed in part["seed"].values)
    if repeated := sorted(seed for seed, count in counts.items() if count > 1):
        raise SweepError(
            f"{name}: several jobs of the sweep have measured the seeds {repeated}; change its "
            "function jobs to return each seed of a config in only one job"
        )
    own = {
        "training_seconds": sum(part["training_seconds"] for part in parts),
        "epoch": xr.concat([part["epoch"] for part in parts], "part").max("part"),
    }
    try:
        whole = xr.concat(
            [part.drop_vars(list(own)) for part in parts],
            dim="seed",
            data_vars="minimal",
            coords="minimal",
            compat="equals",
            join="exact",
            combine_attrs="override",
        )
    except (ValueError, xr.AlignmentError) as error:
        raise SweepError(f"{name}: the results of its seeds do not match: {error}") from error
    whole = whole.assign(own).sortby("seed")
    seeds = [int(seed) for seed in whole["seed"].values]
    whole.attrs["config"] = json.dumps(_config(parts[0]) | {"seeds": seeds}, sort_keys=True)
    whole.attrs["parts"] = json.dumps([_provenance(part) for part in parts])
    return whole


def _config(dataset: xr.Dataset) -> dict:
    return json.loads(dataset.attrs["config"])


def _provenance(dataset: xr.Dataset) -> Mapping[str, object]:
    names = ("commit", "host_platform", "versions", "environment", "trained_by", "measurement")
    kept = {name: dataset.attrs[name] for name in names if name in dataset.attrs}
    return {"seeds": _config(dataset)["seeds"]} | kept
