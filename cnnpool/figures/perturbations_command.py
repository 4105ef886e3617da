r"""Draws images beside their deformed and noisy copies: x, tau(x), x + eta.

    python -m cnnpool.figures perturbations --config=configs/cifar10.py --data_dir=DATA
    python -m cnnpool.figures perturbations --workdir=runs/vgg11_bn --deltas=0.3,1,3 --cutoffs=3,10
    python -m cnnpool.figures perturbations cat.jpg dog.png PICTURES --size=224 --deltas=1,5
    python -m cnnpool.figures perturbations --config=configs/scale2d.py

One row per image and displacement, one column per cut-off and kind of noise. Below each is the norm
of the change, ||tau(x) - x|| or ||eta||, which are equal, and its share of ||x||, in the units that
a network is given; NAME.csv lists them all. The images of a run or a config are its test images,
normalized as its networks take them; your own are cropped to central squares, with pixels from 0 to
1. "not natural": the displacement is outside the protocol's range for its cut-off.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.figures import picture_data
from cnnpool.figures.item_names import FORMATS, picture_path
from cnnpool.files import storage
from cnnpool.measuring.names import INTERPOLATIONS


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.figures perturbations")
    floats, integers = command_line.numbers(float), command_line.numbers(int)
    parser.add_argument(
        "files", type=storage.on_disk, nargs="*", help="pictures, folders of them, .npy"
    )
    parser.add_argument("--workdir", type=storage.path, help="a run, whose test images are shown")
    parser.add_argument("--config", help="a config, NAME:PRESET or FILE.py:PRESET, instead")
    parser.add_argument("--data_dir", help="of the data of a run or config, instead of its own")
    parser.add_argument("--images", type=int, default=3, help="how many images (%(default)s)")
    parser.add_argument("--deltas", type=floats, default=(1.0,), help="displacements, pixels (1)")
    parser.add_argument("--cutoffs", type=integers, default=(3,), help="cut-offs c (3)")
    parser.add_argument(
        "--noise", type=lambda text: tuple(text.split(",")), default=("white",), help="(white)"
    )
    parser.add_argument("--interpolation", choices=INTERPOLATIONS, default="bilinear")
    parser.add_argument("--seed", type=int, default=0, help="of images and perturbations (0)")
    parser.add_argument("--size", type=int, help="pixels a side of one's own images")
    parser.add_argument(
        "--out", type=storage.path, default="perturbations", help="picture (perturbations.png)"
    )
    parser.add_argument("--format", choices=FORMATS, help="of the picture (the ending of --out)")
    args = parser.parse_args(argv)
    if (bool(args.files), args.workdir is not None, args.config is not None).count(True) != 1:
        parser.error("give either picture files, --workdir or --config")
    if args.files and args.data_dir:
        parser.error("--data_dir goes with --workdir or --config")
    if args.size is not None and not (args.files and args.size > 1):
        parser.error("--size is of one's own images, 2 or more pixels a side")
    if args.images < 1:
        parser.error(f"--images must be at least 1, got {args.images}")
    out = picture_path("perturbations", args.out, args.format)
    picture_data.check_writable(out)
    # Slow to import, so only now; the only item that computes with JAX.
    from cnnpool.devices import numerics

    numerics.settle()
    from cnnpool.figures import perturbations, style
    from cnnpool.library import perturbed
    from cnnpool.measuring.settings import Settings

    settings = Settings(
        images=max(args.images, 2),
        deltas=args.deltas,
        cutoffs=args.cutoffs,
        noise=args.noise,
        interpolation=args.interpolation,
        seed=args.seed,
    )
    if args.files:
        shown = perturbed.of_files(args.files, settings, size=args.size)
    elif args.workdir is not None:
        shown = perturbed.of_run(args.workdir, settings, data_dir=args.data_dir)
    else:
        shown = perturbed.of_config_file(args.config, settings, data_dir=args.data_dir)
    first = slice(args.images)
    style.save(lambda: perturbations.draw(shown.clean[first], shown.norms[first], shown.cells), out)
    perturbations.write_csv(out.with_suffix(".csv"), shown.norms[first], shown.cells)
    print(f"{len(shown.clean[first])} images: {shown.source}\n\nin {out}")
