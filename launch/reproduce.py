"""Reproduces an item of the paper: trains the missing networks, measures them, draws the item.

    python -m launch.reproduce fig4 --preset=quick     # H = 64, 1 minute on 2 CPU cores
    python -m launch.reproduce fig4 --preset=cpu       # H = 256, 8 minutes
    python -m launch.reproduce fig4 --preset=paper     # H = 1000, 90 minutes
    python -m launch.reproduce fig6 --preset=cpu       # image classifiers, shortened training
    python -m launch.reproduce all --preset=cpu
    python -m launch.reproduce fig2 --preset=imagenet --weights=DIR --images=PICTURES

If the command is killed, run it again to continue; once everything has been measured, it only
draws. Networks are trained and measured by the same jobs as with `launch.sweep --sweep=ITEM`, in
the same folders under --root, so that launch.status shows them. fig4 writes fig4.nc, fig4.png,
table1.md and slopes.md; the other figures write a picture, the numbers of its curves as CSV, and
one result file per network to the folder --measurements, which all figures share. Existing
networks are used: measured ones in --measurements, trained ones in --root, and packed ones in
results/checkpoints.

--preset=imagenet draws figures 2, 3, 7, 8, 9 and 10 with torchvision's networks for ImageNet.
--weights is a folder with the files that torchvision downloads (first version of its weights):
alexnet-owt-7be5be79.pth, vgg11-8a719046.pth, vgg13-19584684.pth, vgg16-397923af.pth,
vgg19-dcbb9e9d.pth, vgg11_bn-6002323d.pth, vgg13_bn-abd245e5.pth, vgg16_bn-6c64b313.pth,
vgg19_bn-c79401a0.pth. Any file NAME-*.pth, NAME.pth or NAME.safetensors is accepted; missing
networks are skipped and listed. --images is a folder of pictures (--data=image_folder) or of
images.npy (--data=arrays), or ImageNet as prepared by TensorFlow Datasets (--data=imagenet).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from cnnpool import command_line
from cnnpool.errors import CnnpoolError, PreemptedError
from cnnpool.figures.item_names import FORMATS
from cnnpool.files import storage
from cnnpool.launch import sweep_file
from cnnpool.launch.items import IMPORTED, ITEMS, TRAINED
from cnnpool.measuring.names import SOURCES

PRESETS = ("quick", "cpu", "paper")
IMAGENET = "imagenet"  # the preset for torchvision's networks
COUNTS = {"num_images": 500, "shuffles": 5}  # defaults for its measurements


class NotMadeError(CnnpoolError):
    """Some of several items could not be reproduced."""


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "launch.reproduce")
    parser.add_argument("item", choices=(*ITEMS, "all"), help="the item of the paper")
    parser.add_argument(
        "--preset",
        choices=(*PRESETS, IMAGENET),
        default="cpu",
        help="the protocol of the training (%(default)s)",
    )
    sweep_file.add_root(parser, "--runs")
    parser.add_argument(
        "--parallel", type=int, default=1, help="most jobs at the same time (%(default)s)"
    )
    parser.add_argument(
        "--out", type=storage.on_disk, help="folder for the item's files (results/ITEM-PRESET)"
    )
    parser.add_argument(
        "--measurements",
        type=storage.on_disk,
        default=Path("results/networks"),
        help="folder for one result file per network (%(default)s)",
    )
    parser.add_argument("--data_dir", help="TFDS's folder with CIFAR-10 (TFDS_DATA_DIR)")
    group = parser.add_argument_group("--preset=imagenet")
    group.add_argument(
        "--weights", type=storage.on_disk, help="folder of torchvision's files, see above"
    )
    group.add_argument(
        "--images", help="folder of the images (with --data=imagenet: TFDS_DATA_DIR)"
    )
    group.add_argument("--data", choices=SOURCES, help="the kind of --images (image_folder)")
    group.add_argument("--num_images", type=int, help="P, number of images (500)")
    group.add_argument("--shuffles", type=int, help="random channel shuffles per network (5)")
    parser.add_argument(
        "--format", choices=FORMATS, default="png", help="file format of figures (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other measurements")
    args = parser.parse_args(argv)
    if args.item == "all" and args.out is not None:
        parser.error("--out requires a single item; all writes to results/ITEM-PRESET")
    if args.preset == "quick" and args.item != "fig4":
        others = [*PRESETS[1:], *([IMAGENET] if args.item in IMPORTED else [])]
        parser.error(f"--preset=quick is for fig4 only; {args.item} has {', '.join(others)}")
    items = tuple(IMPORTED if args.preset == IMAGENET else TRAINED)
    if args.item not in (*items, "all"):
        parser.error(f"--preset={args.preset} expects one of {', '.join(items)}; got {args.item}")
    if (args.preset == IMAGENET) != (args.weights is not None):
        parser.error("--preset=imagenet and --weights=DIR require each other")
    _settle_imagenet(parser, args)
    if args.preset == IMAGENET and args.data != IMAGENET and args.images is None:
        parser.error(f"--images=DIR must name the folder of the images (--data={args.data})")
    # Slow to import, so only now; so is what _reproduce imports.
    from cnnpool.devices import numerics, runtime

    numerics.settle()
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
        raise NotMadeError("not reproduced:\n" + "\n".join(failures))


def _settle_imagenet(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Sets defaults of the options for imported networks; ends if others are given for them."""
    for name, default in {"images": None, "data": "image_folder", **COUNTS}.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif args.preset != IMAGENET:
            parser.error(f"--{name} requires --preset={IMAGENET}; got --preset={args.preset}")
    if args.preset == IMAGENET and args.data_dir is not None:
        parser.error(f"--data_dir is for CIFAR-10; with --preset={IMAGENET} use --images=DIR")


def _reproduce(item: str, args: argparse.Namespace) -> None:
    from cnnpool.launch import fig4_item, imagenet_items, trained_items
    from cnnpool.launch.engines.local import Local, Options

    out = args.out or Path("results") / f"{item}-{args.preset}"
    picture, overwrite = out / f"{item}.{args.format}", args.overwrite
    places = trained_items.Places(args.root, args.measurements, data_dir=args.data_dir)
    engine = Local(Options(parallel=args.parallel))
    if item == "fig4":
        dataset = fig4_item.reproduce(args.preset, places, engine, out=out, overwrite=overwrite)
        print(fig4_item.summary(dataset))
    elif args.preset == IMAGENET:
        folders = args.weights, args.images, args.data, args.root, args.measurements
        imagenet_items.reproduce(
            item,
            imagenet_items.Places(*folders),
            picture=picture,
            count=args.num_images,
            shuffles=args.shuffles,
            overwrite=overwrite,
        )
    else:
        trained_items.reproduce(
            item, args.preset, places, engine, picture=picture, overwrite=overwrite
        )
    print(f"\nin {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")


if __name__ == "__main__":
    command_line.run(main)
