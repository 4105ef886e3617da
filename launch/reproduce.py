"""Makes a whole item of the paper: trains what is missing, measures, draws.

    python -m launch.reproduce fig4 --preset=quick     # 2 CPU cores, 4 minutes
    python -m launch.reproduce fig4 --preset=cpu       # H = 256, about an hour
    python -m launch.reproduce fig4 --preset=paper     # H = 1000, for an accelerator
    python -m launch.reproduce fig6 --preset=cpu       # deep networks, shortened training
    python -m launch.reproduce all --preset=cpu
    python -m launch.reproduce fig2 --preset=imagenet --weights=DIR --images=PICTURES

Killed at any moment, the same command goes on where it was; given again when all is
there, it only draws. fig4 leaves fig4.nc, fig4.png, table1.md and slopes.md; the figures of
deep networks leave a picture, the numbers of its curves as CSV, and a file a network in the
folder of --measurements, which they share. Of networks, it takes those that are trained already:
in the folder of --runs, or packed in results/checkpoints.

--preset=imagenet draws figures 2, 3, 7, 8, 9 and 10 of torchvision's networks for ImageNet.
--weights holds what torchvision downloads, its first version: alexnet-owt-7be5be79.pth,
vgg11-8a719046.pth, vgg13-19584684.pth, vgg16-397923af.pth, vgg19-dcbb9e9d.pth,
vgg11_bn-6002323d.pth, vgg13_bn-abd245e5.pth, vgg16_bn-6c64b313.pth, vgg19_bn-c79401a0.pth; any
NAME-*.pth, NAME.pth or NAME.safetensors will do, and what is not there is left out and named.
--images holds pictures (--data=image_folder), images.npy (arrays), or ImageNet as TensorFlow
Datasets prepares it (imagenet).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from cnnpool import command_line
from cnnpool.data.images import DataError
from cnnpool.devices import runtime
from cnnpool.errors import CnnpoolError, PreemptedError
from cnnpool.eval import evaluate
from cnnpool.figures import __main__ as figures
from cnnpool.figures import fig4, table1
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_text
from cnnpool.measuring.measured_data import SOURCES
from cnnpool.measuring.transforms import TRANSFORMS
from cnnpool.training.fit import train
from configs import scale1d
from launch import deep_items, deep_runs, imagenet_items

ITEMS = ("fig4", *deep_runs.ITEMS)
PRESETS = ("quick", "cpu", "paper")
IMAGENET = "imagenet"  # trained by others


def reproduce_fig4(preset: str, *, runs: Path, out: Path, overwrite: bool = False) -> xr.Dataset:
    """Figure 4 and Table 1.

    Args:
      preset: of `configs/scale1d.py`.
      runs: holds the working directory "fig4-PRESET".
      out: gets fig4.nc, fig4.png, table1.md, slopes.md.
      overwrite: replace a fig4.nc that holds another measurement.

    Returns:
      The measurement.
    """
    config = scale1d.get_config(preset)
    runtime.one_cpu_device_per_core(len(config.seeds))
    workdir, file = runs / f"fig4-{preset}", out / "fig4.nc"
    print(f"1/3 training {len(config.seeds)} networks of width {config.model.width} in {workdir}")
    train(config, workdir)
    print(f"2/3 measuring into {file}")
    dataset = evaluate(
        workdir, file, stages=("init", "trained"), transforms=tuple(TRANSFORMS), overwrite=overwrite
    )
    print(f"3/3 drawing into {out}")
    slopes = figures.make("fig4", [file], out / "fig4.png")
    write_text(out / "slopes.md", slopes + "\n")
    figures.make("table1", [file], out / "table1.md")
    return dataset


def summary(dataset: xr.Dataset) -> str:
    """The main numbers, for the terminal."""
    first, last = fig4.FIT_RANGE
    head = f"{'curve':24s}{'slope of':10s}{'measured':>18s}{'finite ring':>14s}{'paper':>8s}"
    lines = [f"\nSlopes against A_k over layers {first}..{last}, ± standard error over seeds", head]
    for row in fig4.slope_rows(dataset):
        if row.first == first:
            measured = f"{row.measured.mean:+.2f} ± {row.measured.se:.2f}"
            exponent = f"{fig4.PAPER_EXPONENT[row.quantity]:+.0f}"
            paper = "" if row.curve == fig4.CURVES[0].label else exponent
            lines.append(
                f"{row.curve:24s}{row.quantity + '_k':10s}{measured:>18s}"
                f"{row.predicted:>+14.2f}{paper:>8s}"
            )
    trained = dataset.sel(stage="trained", transform="none")
    errors = ", ".join(f"{float(error):.2%}" for error in trained["test_error"])
    epochs = ", ".join(f"{int(epoch)}" for epoch in trained["stopped_epoch"])
    positive = table1.all_positive(table1.filters(dataset, "trained"))
    lines.append(
        "finite ring: exact for constant positive filters; paper: asymptotic, trained networks\n"
        f"test error by seed: {errors}; trained for {epochs} epochs; mean filters positive in the "
        f"first {table1.POSITIVE_LAYERS} layers: {int(positive.sum())} of {positive.size} networks"
    )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.reproduce")
    parser.add_argument("item", choices=(*ITEMS, "fig9", "all"), help="of the paper")
    parser.add_argument(
        "--preset", choices=(*PRESETS, IMAGENET), default="cpu", help="(%(default)s)"
    )
    parser.add_argument(
        "--runs", type=storage.on_disk, default=Path("runs"), help="for runs (%(default)s)"
    )
    parser.add_argument(
        "--out", type=storage.on_disk, help="for the item's files (results/ITEM-PRESET)"
    )
    parser.add_argument(
        "--measurements",
        type=storage.on_disk,
        default=Path("results/networks"),
        help="for a file a deep network (%(default)s)",
    )
    parser.add_argument("--data_dir", help="of CIFAR-10: TFDS's folder (TFDS_DATA_DIR)")
    group = parser.add_argument_group("--preset=imagenet")
    group.add_argument(
        "--weights", type=storage.on_disk, help="folder of torchvision's files, see above"
    )
    group.add_argument("--images", help="folder of the images (of imagenet: TFDS_DATA_DIR)")
    group.add_argument("--data", choices=SOURCES, default="image_folder", help="(%(default)s)")
    group.add_argument("--num_images", type=int, default=500, help="P (%(default)s)")
    group.add_argument("--shuffles", type=int, default=5, help="of each network (%(default)s)")
    parser.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="of figures")
    parser.add_argument("--overwrite", action="store_true", help="replace differing measurements")
    args = parser.parse_args(argv)
    if args.item == "all" and args.out is not None:
        parser.error("--out is of one item; all leaves results/ITEM-PRESET")
    if args.preset == "quick" and args.item != "fig4":
        parser.error("--preset=quick is of fig4; deep networks have cpu and paper")
    items = tuple(imagenet_items.ITEMS) if args.preset == IMAGENET else ITEMS
    if args.item not in (*items, "all"):
        parser.error(f"--preset={args.preset} makes {', '.join(items)}; got {args.item}")
    if (args.preset == IMAGENET) != (args.weights is not None):
        parser.error("--preset=imagenet and --weights=DIR go together")
    if args.preset == IMAGENET and args.data != IMAGENET and args.images is None:
        parser.error(f"--images=DIR must name the folder of the images (--data={args.data})")
    if args.item not in ("fig4", "all"):  # fig4, the first of all, splits the CPU by its networks
        runtime.one_cpu_device_per_core(1)
    failures = []
    for item in items if args.item == "all" else (args.item,):
        try:
            _reproduce(item, args)
        except PreemptedError:
            raise
        except CnnpoolError as error:
            if args.item != "all":
                raise
            failures.append(f"{item}: {error}")
    if failures:
        raise DataError("not made:\n" + "\n".join(failures))


def _reproduce(item: str, args: argparse.Namespace) -> None:
    out = args.out or Path("results") / f"{item}-{args.preset}"
    if item == "fig4":
        dataset = reproduce_fig4(args.preset, runs=args.runs, out=out, overwrite=args.overwrite)
        print(summary(dataset))
    elif args.preset == IMAGENET:
        folders = args.weights, args.images, args.data, args.runs, args.measurements
        imagenet_items.reproduce(
            item,
            imagenet_items.Places(*folders),
            picture=out / f"{item}.{args.format}",
            count=args.num_images,
            shuffles=args.shuffles,
            overwrite=args.overwrite,
        )
    else:
        places = deep_items.Places(args.runs, args.measurements, data_dir=args.data_dir)
        picture = out / f"{item}.{args.format}"
        deep_items.reproduce(item, args.preset, places, picture=picture, overwrite=args.overwrite)
    print(f"\nin {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


if __name__ == "__main__":
    command_line.run(main)
