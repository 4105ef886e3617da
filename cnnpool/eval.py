r"""Measures the networks of a run: D, G, R of every layer, with standard errors.

    python -m cnnpool.eval --workdir=runs/a --stage=trained --out=a.nc
    python -m cnnpool.eval --workdir=runs/a --stage=init,120,trained \\
        --transforms=none,channel_shuffle,mean_channel_activations --out=a.nc

Writes netCDF (see `cnnpool.results`) and prints a table, a line a layer. If the
output exists and holds this very measurement, there is nothing to do.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from cnnpool import command_line, results, run_config
from cnnpool.measuring import run as measuring
from cnnpool.measuring.stages import parse_stages
from cnnpool.measuring.transforms import TRANSFORMS, parse_transforms


def layer_table(dataset: xr.Dataset) -> str:
    """D, G, R of every layer, averaged over seeds, for each stage and transform.

    The error is the standard error over seeds, or the mean one over images for a
    single seed.
    """
    lines = []
    seeds = dataset.sizes["seed"]
    for stage in dataset["stage"].values:
        for transform in dataset["transform"].values:
            cell = dataset.sel(stage=stage, transform=transform)
            error = f"{float(cell['test_error'].mean()):.2%}"
            lines.append(f"\n{stage}, {transform} ({seeds} seeds, test error {error})")
            lines.append(f"{'layer':10s}" + "".join(f"{name:>12s} ± se     " for name in "DGR"))
            for layer in dataset["layer"].values:
                row = cell.sel(layer=layer)
                lines.append(f"{layer:10s}" + "".join(_mean_and_error(row, n) for n in "DGR"))
    return "\n".join(lines).strip()


def _mean_and_error(row: xr.Dataset, name: str) -> str:
    values = row[name].values
    if len(values) > 1:
        error = values.std(ddof=1) / np.sqrt(len(values))
    else:
        error = float(row[f"{name}_se"].mean())
    return f"{values.mean():12.4g} ± {error:<7.2g}"


def evaluate(
    workdir: Path,
    out: Path,
    *,
    stages: Sequence[str],
    transforms: Sequence[str],
    overwrite: bool = False,
    draws: int | None = None,
) -> xr.Dataset:
    """Measures a run into a file; a file that holds this measurement is read instead.

    Args:
      workdir: of the run.
      out: the netCDF file.
      stages: "init", "trained" or epochs.
      transforms: names of transforms.
      overwrite: replace a file that holds something else.
      draws: instead of the config's `measurement.draws`.

    Raises:
      FileExistsError: if `out` holds something else.
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
    """
    config = run_config.load(workdir)
    if draws is not None:
        config.measurement.draws = draws
    if out.exists() and not overwrite:
        wanted = measuring.measurement_record(workdir, config, stages, transforms)
        try:
            there = results.read(out)
            same = there.attrs["measurement"] == wanted
        except results.ResultsError:
            same = False
        if same:
            return there
        command_line.refuse_existing(out, overwrite=False, because="with another measurement")
    dataset = measuring.measure_run(workdir, config=config, stages=stages, transforms=transforms)
    results.write(out, dataset)
    return dataset


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.eval")
    parser.add_argument(
        "--workdir", type=Path, required=True, help="of the run, from cnnpool.train"
    )
    parser.add_argument(
        "--stage", default="trained", help="comma-separated: init, trained, or epochs (%(default)s)"
    )
    parser.add_argument(
        "--transforms",
        default="none",
        help=f"comma-separated, of {', '.join(TRANSFORMS)} (%(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the netCDF file to write")
    parser.add_argument(
        "--draws", type=int, help="moves and noises an image (config: measurement.draws)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a differing output")
    args = parser.parse_args(argv)
    dataset = evaluate(
        args.workdir,
        args.out,
        stages=parse_stages(args.stage),
        transforms=parse_transforms(args.transforms),
        overwrite=args.overwrite,
        draws=args.draws,
    )
    print(layer_table(dataset))
    print(f"\nin {args.out}")


if __name__ == "__main__":
    command_line.run(main)
