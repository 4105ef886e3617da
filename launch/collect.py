"""Collects what a sweep has measured so far in one result file, and lists what is missing.

    python -m launch.collect --sweep=fig5 --preset=cpu --out=fig5.nc
    python -m cnnpool.figures fig5 --results fig5.nc --out fig5.png

The file holds one netCDF group per network and measurement; seeds that were trained by several jobs
are combined. All undamaged results are written, with exit status 1 if a result file is damaged.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.launch import sweep_file
from cnnpool.launch.jobs import SweepError


def _all(jobs: int) -> str:
    return "the one job is finished" if jobs == 1 else f"all {jobs} jobs are finished"


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.collect")
    sweep_file.add_arguments(parser)
    parser.add_argument(
        "--out", type=command_line.netcdf_path, required=True, help="the netCDF file to write"
    )
    args = parser.parse_args(argv)
    # Slow to import, so only now.
    from cnnpool.files import results
    from cnnpool.launch.collected import collected

    jobs = sweep_file.of_arguments(args)
    networks, missing, damaged = collected(jobs, args.root)
    damage = "\n  ".join(["damaged; delete these and run the sweep again:", *damaged])
    if not networks:
        none = f"none of {len(jobs)} jobs in {args.root} is finished"
        raise SweepError(damage if damaged else none)
    only = len(networks) == 1
    results.write(args.out, next(iter(networks.values())) if only else networks)
    for name, dataset in networks.items():
        print(f"{name}: {dataset.sizes['seed']} networks")
    for name in missing:
        print(f"not finished: {name}")
    unfinished = f"{len(missing)} of {len(jobs)} jobs are not finished"
    print(f"\n{len(networks)} in {args.out}; {unfinished if missing else _all(len(jobs))}")
    if damaged:
        raise SweepError(f"{damage}\n{args.out} contains the others")


if __name__ == "__main__":
    command_line.run(main)
