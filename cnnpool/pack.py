"""Packs the best networks of a deep run into a small folder that outlives the machine.

    python -m cnnpool.pack --workdir=runs/a --out=results/checkpoints/a
    python -m cnnpool.eval --workdir=results/checkpoints/a --out=a.nc

Leaves config.json, provenance.json, networks.npz (float16, by "seedN/LAYER/NAME") and
summary.json, with errors before and after rounding; cnnpool.export opens the folder too.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

import jax
import numpy as np

from cnnpool import command_line
from cnnpool.devices import numerics, runtime
from cnnpool.files import storage
from cnnpool.importing.folder import is_imported
from cnnpool.measuring import image_run
from cnnpool.measuring.stages import TRAINED
from cnnpool.runs import run_config
from cnnpool.training import packed


def pack(workdir: Path, out: Path, *, data_dir: str | None = None, overwrite: bool = False) -> dict:
    """Packs the best networks of a finished run; returns what summary.json holds.

    Raises:
      ValueError, CheckpointError: if the run is not deep, not trained to the end, or damaged, or
        JAX is set so that other numbers would come out.
      FileExistsError: if `out` holds something else.
      PackedError: if a value does not fit into float16.
    """
    numerics.refuse_others()
    config = run_config.load(workdir, data_dir=data_dir)
    if is_imported(workdir):
        raise ValueError(f"{workdir} holds an imported network; expected a run of cnnpool.train")
    if not run_config.is_deep(config):
        raise ValueError(f"{workdir} is a run on {config.data.name}; expected a deep one")
    packed.refuse_run(out)
    training = image_run.open_training(config)
    state = image_run.load_stages(workdir, config, [TRAINED], training=training)[TRAINED]
    half = packed.rounded(jax.device_get(state.networks), config.seeds)
    again = jax.tree.map(lambda a: a.astype(np.float32), half)
    found = image_run.evaluator(training)(again, image_run.network_epochs(state, TRAINED))
    return packed.write(
        out,
        config,
        state=dataclasses.replace(state, networks=half),
        rounded_errors=[float(one.error) for one in found],
        data=training.data,
        trained_by=(workdir / "provenance.json").read_text("utf-8"),
        overwrite=overwrite,
    )


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.pack")
    parser.add_argument(
        "--workdir", type=storage.path, required=True, help="of a finished deep run"
    )
    parser.add_argument("--out", type=storage.path, required=True, help="the folder to make")
    parser.add_argument("--data_dir", help="instead of the run's config.data.data_dir")
    parser.add_argument("--overwrite", action="store_true", help="replace a differing folder")
    args = parser.parse_args(argv)
    runtime.one_cpu_device_per_core(len(run_config.load(args.workdir).seeds))
    summary = pack(args.workdir, args.out, data_dir=args.data_dir, overwrite=args.overwrite)
    for row in summary["seeds"]:
        before, after = row["best_test_error"], row["packed_test_error"]
        print(f"seed {row['seed']}: test error {before:.2%}, {after:.2%} in float16")
    print(f"\nin {args.out}, {summary['networks_bytes'] / 1e6:.1f} MB")


if __name__ == "__main__":
    command_line.run(main)
