"""Exports results or parameters to files for other tools.

    python -m cnnpool.export a.nc --to=npz            # a.npz; also csv, parquet
    python -m cnnpool.export a.nc --out=means.csv --mean
    python -m cnnpool.export --workdir=runs/a --stage=trained --to=npz --out=a_params.npz
    python -m cnnpool.export --workdir=results/checkpoints/a --to=npz --out=a_params.npz

Results: npz has one array per variable and coordinate; csv and parquet have one row per value of
D, G, R, and one column per frequency or tap of filters (gamma_1, gamma_2). With --mean they have
one row per layer: D, G, R averaged over the networks in which the layer is not dead, with standard
errors and the number of these networks, "2 of 4". The format is given by --to or by the suffix of
--out, which must agree.

Parameters: npz, with keys of seed and path, "seed0/conv01/kernel"; convolution kernels have shape
(F, C_in, C_out) in 1-D and (F, F, C_in, C_out) in 2-D; batch statistics are included,
"seed0/bn01/mean". "trained" is the network with the smallest test error, if the run kept it.
"""

from collections.abc import Sequence
from pathlib import Path

from cnnpool import command_line
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.measuring.names import parse_stage

FORMATS = ("csv", "npz", "parquet")


def _format(to: str | None, out: Path | None) -> str:
    """The format of the output, from --to or the suffix of --out.

    Raises:
      ValueError: if they differ, or neither gives a format.
    """
    ending = "" if out is None else out.suffix.removeprefix(".")
    found = to or ending
    if found not in FORMATS:
        raise ValueError(
            f"expected --to, or --out with a suffix {', '.join(FORMATS)}; got --out={out}"
        )
    if ending not in ("", found):
        raise ValueError(f"--out={out} ends in .{ending}, but --to={to}; omit one of them")
    return found


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.export")
    parser.add_argument(
        "results", type=storage.path, nargs="?", help="a result file of cnnpool.eval"
    )
    parser.add_argument(
        "--workdir",
        type=storage.path,
        help="folder of a run, or of packed or imported networks, whose parameters to export",
    )
    parser.add_argument(
        "--stage", help="training stage of the networks: init, trained, last or an epoch (trained)"
    )
    parser.add_argument("--data_dir", help="data folder, instead of the run's config.data.data_dir")
    parser.add_argument("--to", choices=FORMATS, help="format (by default, the suffix of --out)")
    parser.add_argument(
        "--mean", action="store_true", help="write a table of means over networks (csv, parquet)"
    )
    parser.add_argument(
        "--all_units",
        action="store_true",
        help="with --mean: all units, not only the last of each layer",
    )
    parser.add_argument(
        "--out", type=storage.path, help="output file (the result file with another suffix)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    if (args.results is None) == (args.workdir is None):
        parser.error("expected either a result file or --workdir")
    try:
        kind = _format(args.to, args.out)
    except ValueError as error:
        parser.error(str(error))
    if args.results is not None:
        if args.stage or args.data_dir:
            parser.error("--stage and --data_dir require --workdir")
        if args.all_units and not args.mean:
            parser.error("--all_units requires --mean; without --mean, all units are written")
        if args.mean and kind == "npz":
            parser.error("--mean writes a table: use --to=csv or --to=parquet")
        out = args.out or args.results.with_suffix(f".{kind}")
        command_line.check_replaceable(out, overwrite=args.overwrite, because="not replaced")
        command_line.check_writable(out)
        # Slow to import, so only now; so below.
        from cnnpool.files import results
        from cnnpool.measuring import exporting

        networks = results.read_networks(args.results)
        if args.mean:
            from cnnpool.figures import mean_table

            frame = mean_table.of_networks(networks, all_units=args.all_units)
            write_atomically(out, lambda path: exporting.TABLE_WRITERS[kind](frame, path))
        else:
            write_atomically(out, lambda path: exporting.RESULT_WRITERS[kind](networks, path))
    else:
        if kind != "npz" or args.out is None or args.mean or args.all_units:
            parser.error("--workdir requires --to=npz and --out, without --mean and --all_units")
        out = args.out
        command_line.check_replaceable(out, overwrite=args.overwrite, because="not replaced")
        command_line.check_writable(out)
        stage = parse_stage(args.stage or "trained")
        from cnnpool.devices import numerics
        from cnnpool.measuring import exporting

        numerics.settle()
        arrays = exporting.parameter_arrays(args.workdir, stage, data_dir=args.data_dir)
        write_atomically(out, lambda path: exporting.write_npz(arrays, path))
    print(f"in {out}")


if __name__ == "__main__":
    command_line.run(main)
