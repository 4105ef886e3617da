r"""Measures the networks of a run: D, G, R of every layer, filter spectra, pooling budget, errors.

    python -m cnnpool.eval --workdir=runs/vgg --stage=init,trained \
        --transforms=none,channel_shuffle --out=vgg.nc
    python -m cnnpool.eval --workdir=runs/vgg --stage=all --out=dynamics.nc
    python -m cnnpool.eval --workdir=runs/vgg --deltas=0.1,0.3,1,3 --cutoffs=3,10 --out=deltas.nc
    python -m cnnpool.eval --workdir=runs/a --stage=init,120,trained \
        --transforms=none,channel_shuffle,mean_channel_activations --out=a.nc

Writes netCDF (see `cnnpool.results`) and prints tables. If the output exists and holds this very
measurement, there is nothing to do.

Transforms: none, channel_shuffle, mean_channel_activations, mean_channel_filters; of deep networks
(runs of configs/cifar10.py, configs/scale2d.py, configs/arrays.py, and folders of cnnpool.pack)
also channel_shuffle:LAYER (one convolution alone), channel_shuffle_each (every one alone) and
channel_shuffle_image (the image's channels too). With none and channel_shuffle, the pooling budget
is measured: the share of the fall of R that is left when channels are shuffled.

Stages: init, epochs, all that are kept, trained, last. Of deep networks "trained" is the network
with the smallest test error, "last" the one after the last epoch; in 1-D runs both are the same.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict
import xarray as xr

from cnnpool import command_line, results, run_config, runtime
from cnnpool.diffeomorphisms import INTERPOLATIONS
from cnnpool.measuring import image_run, tables
from cnnpool.measuring import run as measuring
from cnnpool.measuring.image_settings import Settings
from cnnpool.measuring.stages import parse_stages
from cnnpool.measuring.transforms import parse_transforms


def evaluate(
    workdir: Path,
    out: Path,
    *,
    stages: Sequence[str],
    transforms: Sequence[str],
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    data_dir: str | None = None,
) -> xr.Dataset:
    """Measures a run into a file; a file that holds this measurement is read instead.

    Args:
      workdir: of the run, or a folder that cnnpool.pack made.
      out: the netCDF file.
      stages: "init", "trained", "last", epochs, or "all".
      transforms: names of transforms.
      overwrite: replace a file that holds something else.
      settings: fields of `Settings` that differ from its defaults; of simple CNNs `draws` alone,
        instead of the config's `measurement.draws`.
      data_dir: instead of the config's `data.data_dir`.

    Raises:
      ValueError: if something is asked for that these networks, or drawn data, do not have.
      FileExistsError: if `out` holds something else.
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
      PackedError: if a packed folder is damaged.
      DataError: if the data of a deep run is absent or damaged.
    """
    config = run_config.load(workdir, data_dir=data_dir)
    given = dict(settings or {})
    if run_config.is_deep(config):
        measured = (stages, transforms, Settings(**given))
        record = partial(image_run.measurement_record, workdir, config, *measured)
        measure = partial(image_run.measure_run, workdir, config, *measured)
    else:
        _set_draws(config, given)
        names = parse_transforms(",".join(transforms))
        record = partial(measuring.measurement_record, workdir, config, stages, names)
        measure = partial(
            measuring.measure_run, workdir, config=config, stages=stages, transforms=names
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


def _set_draws(config: ConfigDict, given: dict[str, Any]) -> None:
    others = given.keys() - {"draws"}
    if others:
        raise ValueError(
            f"{', '.join(f'--{name}' for name in sorted(others))}: only deep networks on images "
            "are measured with these; simple CNNs on a ring take --draws alone"
        )
    if "draws" in given:
        config.measurement.draws = given["draws"]


def _numbers(kind: type) -> Callable[[str], tuple]:
    """A parser of comma-separated numbers."""

    def numbers(text: str) -> tuple:
        return tuple(kind(part) for part in text.split(","))

    numbers.__name__ = f"comma-separated {kind.__name__}"
    return numbers


def _add_settings(parser: argparse.ArgumentParser) -> list[str]:
    """The flags of `Settings`; returns their names."""
    default = Settings()
    group = parser.add_argument_group("measurement (deep networks; of simple CNNs --draws alone)")
    flags: dict[str, dict[str, Any]] = {
        "images": {"type": int, "help": "P, test images"},
        "draws": {"type": int, "help": "diffeomorphisms and noises an image"},
        "deltas": {"type": _numbers(float), "help": "nominal displacements, pixels, 0.1,0.3,1"},
        "cutoffs": {"type": _numbers(int), "help": "cut-offs c of diffeomorphisms, 3,10"},
        "interpolation": {"choices": sorted(INTERPOLATIONS), "help": "of deformed images"},
        "image_noise": {
            "action": argparse.BooleanOptionalAction,
            "help": "measure, errors too, under the noise of the training set, if it has some",
        },
        "shuffles": {"type": int, "help": "random channel shuffles a network"},
        "own_statistics": {
            "action": argparse.BooleanOptionalAction,
            "help": "at initialization, batch statistics of x, tau(x), x + eta each for its own",
        },
        "seed": {"type": int, "help": "of images, diffeomorphisms, noise and shuffles"},
        "batch_size": {"type": int, "help": "images whose activations are held at once"},
    }
    for name, options in flags.items():
        value = getattr(default, name)
        shown = ",".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
        options["help"] += f" ({shown})"
        group.add_argument(f"--{name}", **options)
    return list(flags)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.eval")
    parser.add_argument(
        "--workdir", type=Path, required=True, help="of cnnpool.train, or a folder of cnnpool.pack"
    )
    parser.add_argument(
        "--stage",
        default="trained",
        help="comma-separated: init, epochs, all, trained, last (%(default)s)",
    )
    parser.add_argument(
        "--transforms", default="none", help="comma-separated, see above (%(default)s)"
    )
    parser.add_argument("--out", type=Path, required=True, help="the netCDF file to write")
    parser.add_argument("--data_dir", help="instead of the run's config.data.data_dir")
    parser.add_argument("--overwrite", action="store_true", help="replace a differing output")
    names = _add_settings(parser)
    args = parser.parse_args(argv)
    config = run_config.load(args.workdir)
    if run_config.is_deep(config):
        runtime.one_cpu_device_per_core(len(config.seeds))
        runtime.use_compilation_cache()
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    dataset = evaluate(
        args.workdir,
        args.out,
        stages=parse_stages(args.stage),
        transforms=tuple(name.strip() for name in args.transforms.split(",")),
        overwrite=args.overwrite,
        settings=given,
        data_dir=args.data_dir,
    )
    print(tables.layer_table(dataset))
    if run_config.is_deep(config):
        print(f"\n{tables.error_table(dataset)}")
    if "spatial_share" in dataset:
        print(f"\n{tables.budget_table(dataset)}")
    print(f"\nin {args.out}")


if __name__ == "__main__":
    command_line.run(main)
