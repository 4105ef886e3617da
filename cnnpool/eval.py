r"""Measures the networks of a run: D, G, R of every layer, or test errors of deep networks.

    python -m cnnpool.eval --workdir=runs/a --stage=trained --out=a.nc
    python -m cnnpool.eval --workdir=runs/a --stage=init,120,trained \\
        --transforms=none,channel_shuffle,mean_channel_activations --out=a.nc
    python -m cnnpool.eval --workdir=runs/vgg --stage=init,trained,last --out=vgg.nc

Writes netCDF (see `cnnpool.results`) and prints a table, a line a layer. If the
output exists and holds this very measurement, there is nothing to do.

Of deep networks (runs of configs/cifar10.py, configs/scale2d.py, and folders of
cnnpool.pack) test error and loss are measured, a line a seed and stage. Their stage
"trained" is the network with the smallest test error, "last" the one after the last epoch;
in 1-D runs both are the same network.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from cnnpool import command_line, results, run_config, runtime
from cnnpool.measuring import image_run
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


def error_table(dataset: xr.Dataset) -> str:
    """Test error and loss of every network, a line a seed and stage."""
    lines = [f"{'stage':10s}{'seed':>6s}{'test error':>12s}{'test loss':>12s}{'best epoch':>12s}"]
    for stage in dataset["stage"].values:
        for seed in dataset["seed"].values:
            cell = dataset.sel(stage=stage, seed=seed)
            best = "-" if cell["best_epoch"].isnull() else f"{int(cell['best_epoch'])}"
            dead = "" if cell["dead_epoch"].isnull() else f"  dead: epoch {int(cell['dead_epoch'])}"
            error, loss = float(cell["test_error"]), float(cell["test_loss"])
            lines.append(f"{stage:10s}{seed:>6d}{error:>12.2%}{loss:>12.4g}{best:>12s}{dead}")
    return "\n".join(lines)


def evaluate(
    workdir: Path,
    out: Path,
    *,
    stages: Sequence[str],
    transforms: Sequence[str],
    overwrite: bool = False,
    draws: int | None = None,
    data_dir: str | None = None,
) -> xr.Dataset:
    """Measures a run into a file; a file that holds this measurement is read instead.

    Args:
      workdir: of the run, or a folder that cnnpool.pack made.
      out: the netCDF file.
      stages: "init", "trained", "last" or epochs.
      transforms: names of transforms; of deep networks "none" alone.
      overwrite: replace a file that holds something else.
      draws: instead of the config's `measurement.draws`; not of deep networks.
      data_dir: instead of the config's `data.data_dir`.

    Raises:
      ValueError: if something is asked for that deep networks, or drawn data, do not have.
      FileExistsError: if `out` holds something else.
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
      PackedError: if a packed folder is damaged.
      DataError: if the data of a deep run is absent or damaged.
    """
    config = run_config.load(workdir, data_dir=data_dir)
    if run_config.is_deep(config):
        _refuse_sensitivities(transforms, draws)
        record = partial(image_run.measurement_record, workdir, config, stages)
        measure = partial(image_run.measure_run, workdir, config=config, stages=stages)
    else:
        if draws is not None:
            config.measurement.draws = draws
        record = partial(measuring.measurement_record, workdir, config, stages, transforms)
        measure = partial(
            measuring.measure_run, workdir, config=config, stages=stages, transforms=transforms
        )
    if out.exists() and not overwrite:
        wanted = record()
        try:
            there = results.read(out)
            same = there.attrs["measurement"] == wanted
        except results.ResultsError:
            same = False
        if same:
            return there
        command_line.refuse_existing(out, overwrite=False, because="with another measurement")
    dataset = measure()
    results.write(out, dataset)
    return dataset


def _refuse_sensitivities(transforms: Sequence[str], draws: int | None) -> None:
    if tuple(transforms) != ("none",) or draws is not None:
        raise ValueError(
            "D, G, R of deep networks are not measured yet, only test error and loss: expected "
            f"--transforms=none and no --draws, got --transforms={','.join(transforms)}"
            + (f" --draws={draws}" if draws is not None else "")
        )


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.eval")
    parser.add_argument(
        "--workdir", type=Path, required=True, help="of cnnpool.train, or a folder of cnnpool.pack"
    )
    parser.add_argument(
        "--stage",
        default="trained",
        help="comma-separated: init, trained, last, or epochs (%(default)s)",
    )
    parser.add_argument(
        "--transforms",
        default="none",
        help=f"comma-separated, of {', '.join(TRANSFORMS)}; deep networks: none (%(default)s)",
    )
    parser.add_argument("--out", type=Path, required=True, help="the netCDF file to write")
    parser.add_argument(
        "--draws", type=int, help="moves and noises an image (config: measurement.draws)"
    )
    parser.add_argument("--data_dir", help="instead of the run's config.data.data_dir")
    parser.add_argument("--overwrite", action="store_true", help="replace a differing output")
    args = parser.parse_args(argv)
    config = run_config.load(args.workdir)
    if run_config.is_deep(config):
        runtime.one_cpu_device_per_core(len(config.seeds))
    dataset = evaluate(
        args.workdir,
        args.out,
        stages=parse_stages(args.stage),
        transforms=parse_transforms(args.transforms),
        overwrite=args.overwrite,
        draws=args.draws,
        data_dir=args.data_dir,
    )
    print(layer_table(dataset) if results.has_sensitivities(dataset) else error_table(dataset))
    print(f"\nin {args.out}")


if __name__ == "__main__":
    command_line.run(main)
