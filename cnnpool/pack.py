"""Packs the best classifiers of a run into a small folder that outlives the machine.

    python -m cnnpool.pack --workdir=runs/a --out=results/checkpoints/a
    python -m cnnpool.eval --workdir=results/checkpoints/a --out=a.nc

Leaves config.json, provenance.json, networks.npz (float16, by "seedN/LAYER/NAME") and
summary.json, with errors before and after rounding; cnnpool.export opens the folder too.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.files import storage
from cnnpool.runs import run_config


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.pack")
    parser.add_argument(
        "--workdir", type=storage.path, required=True, help="of a finished run on pictures"
    )
    parser.add_argument("--out", type=storage.path, required=True, help="the folder to make")
    parser.add_argument("--data_dir", help="instead of the run's config.data.data_dir")
    parser.add_argument("--overwrite", action="store_true", help="replace a differing folder")
    args = parser.parse_args(argv)
    command_line.check_writable(args.out / "summary.json")
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
