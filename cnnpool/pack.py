"""Packs the best classifiers of a run into a small folder, to keep or to share.

    python -m cnnpool.pack --workdir=runs/a --out=results/checkpoints/a
    python -m cnnpool.eval --workdir=results/checkpoints/a --out=a.nc

Writes config.json, provenance.json, networks.npz (float16, keys "seedN/LAYER/NAME") and
summary.json with the errors before and after rounding. cnnpool.export also opens the folder.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.files import storage
from cnnpool.runs import run_config


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.pack")
    parser.add_argument(
        "--workdir",
        type=storage.path,
        required=True,
        help="working directory of a finished run of image classifiers",
    )
    parser.add_argument("--out", type=storage.path, required=True, help="the folder to write")
    parser.add_argument("--data_dir", help="data folder, instead of the run's config.data.data_dir")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a folder with other content"
    )
    args = parser.parse_args(argv)
    # Slow to import, so only now.
    from cnnpool.devices import numerics, runtime
    from cnnpool.measuring.packing import pack

    numerics.settle()
    runtime.one_cpu_device_per_core(len(run_config.load(args.workdir).seeds))
    summary = pack(args.workdir, args.out, data_dir=args.data_dir, overwrite=args.overwrite)
    for row in summary["seeds"]:
        before, after = row["best_test_error"], row["packed_test_error"]
        print(f"seed {row['seed']}: test error {before:.2%}, {after:.2%} in float16")
    print(f"\nin {args.out}, {summary['networks_bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    command_line.run(main)
