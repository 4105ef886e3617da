"""Gathers what a sweep has measured so far into one result file, and names what is not there yet.

    python -m launch.collect --sweep=launch/sweeps/fig5.py --preset=cpu --out=fig5.nc
    python -m cnnpool.figures fig5 --results fig5.nc --out fig5.png

The file holds a netCDF group a network and measurement; seeds that were trained by several jobs
are put together.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path

import xarray as xr

from cnnpool import command_line, results, storage
from launch import sweep_file
from launch.jobs import Job, SweepError


def collected(jobs: Sequence[Job], root: Path) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Networks by the name of their group, and the names of jobs that are not finished.

    Raises:
      ResultsError: if a result file is damaged.
      SweepError: if parts of one network do not fit one another.
    """
    parts: dict[str, list[xr.Dataset]] = {}
    missing = []
    for job in jobs:
        folder = root / job.name
        if not job.is_finished(folder):
            missing.append(job.name)
            continue
        for one in job.measurements:
            group = "-".join(part for part in (job.group, one.name) if part)
            parts.setdefault(group, []).append(results.read(folder / one.file))
    return {group: one_network(found, group) for group, found in parts.items()}, missing


def one_network(parts: Sequence[xr.Dataset], name: str) -> xr.Dataset:
    """Seeds of one network that were measured apart, in order.

    Raises:
      SweepError: if they differ in more than their seeds.
    """
    if len(parts) == 1:
        return parts[0]
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
        raise SweepError(f"{name}: the jobs of its seeds do not fit: {error}") from error
    whole = whole.assign(own).sortby("seed")
    seeds = [int(seed) for seed in whole["seed"].values]
    whole.attrs["config"] = json.dumps(_config(parts[0]) | {"seeds": seeds}, sort_keys=True)
    whole.attrs["parts"] = json.dumps([_provenance(part) for part in parts])
    return whole


def _config(dataset: xr.Dataset) -> dict:
    return json.loads(dataset.attrs["config"])


def _provenance(dataset: xr.Dataset) -> Mapping[str, object]:
    names = ("commit", "host_platform", "versions", "trained_by", "measurement")
    kept = {name: dataset.attrs[name] for name in names if name in dataset.attrs}
    return {"seeds": _config(dataset)["seeds"]} | kept


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.collect")
    sweep_file.add_arguments(parser)
    parser.add_argument("--out", type=storage.path, required=True, help="the netCDF file to write")
    args = parser.parse_args(argv)
    jobs = sweep_file.of_arguments(args)
    networks, missing = collected(jobs, args.root)
    if not networks:
        raise SweepError(f"none of {len(jobs)} jobs in {args.root} is finished")
    only = len(networks) == 1
    results.write(args.out, next(iter(networks.values())) if only else networks)
    for name, dataset in networks.items():
        print(f"{name}: {dataset.sizes['seed']} networks")
    for name in missing:
        print(f"not finished: {name}")
    print(f"\n{len(networks)} in {args.out}; {len(missing)} of {len(jobs)} jobs are not finished")


if __name__ == "__main__":
    command_line.run(main)
