r"""Computes the outputs of a network for your own images.

    python -m cnnpool.predict --workdir=runs/vgg16 --images=x.npy --out=logits.npy

The images have shape (n, height, width, channels). uint8 images are normalized like the training
images of the network; floating-point images must already be normalized, (pixels - mean) / std.
(Unlike here, floats are pixels from 0 to 1 in cnnpool.eval --data=arrays.) The output has shape
(n, outputs), or (seeds, n, outputs) if the folder contains several networks; for networks that end
with their features, it consists of feature maps.
"""

from collections.abc import Sequence
from pathlib import Path

from cnnpool import command_line
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.measuring.names import parse_stage


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.predict")
    parser.add_argument(
        "--workdir",
        type=storage.path,
        required=True,
        help="folder of a run, or of packed or imported networks",
    )
    parser.add_argument(
        "--images",
        type=storage.path,
        required=True,
        help=".npy file of shape (n, h, w, channels): uint8, or floats that are already normalized",
    )
    parser.add_argument("--out", type=storage.path, required=True, help="the .npy file to write")
    parser.add_argument(
        "--stage", default="trained", help="training stage of the networks (%(default)s)"
    )
    parser.add_argument("--batch_size", type=int, default=50, help="images per batch (%(default)s)")
    parser.add_argument("--data_dir", help="folder of the training data, instead of the run's")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    command_line.check_replaceable(args.out, overwrite=args.overwrite, because="not replaced")
    command_line.check_writable(args.out)
    stage = parse_stage(args.stage)
    if args.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {args.batch_size}")
    # Slow to import, so only now.
    import numpy as np

    from cnnpool.devices import numerics, runtime
    from cnnpool.measuring.run_outputs import predict

    numerics.settle()
    runtime.use_compilation_cache()
    options = {"stage": stage, "batch_size": args.batch_size, "data_dir": args.data_dir}
    outputs = predict(args.workdir, args.images, **options)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, outputs, allow_pickle=False)

    write_atomically(args.out, write)
    print(f"{outputs.shape} outputs in {args.out}")


if __name__ == "__main__":
    command_line.run(main)
