"""CIFAR-10 with its images compressed again by JPEG, for TFDS to read; and what JPEG leaves out.

    python -m benchmarks.jpeg_copies --quality=20 --out=FOLDER
    TFDS_DATA_DIR=FOLDER python -m cnnpool.train --config=configs/cifar10.py:cpu --workdir=...
    python -m benchmarks.jpeg_copies --measure --out=benchmarks/jpeg_copies.md

Trained on such copies, networks answer whether their sensitivities hang on the compression. With
--measure: the norm of what JPEG changes in the original images (TFDS_DATA_DIR), in the units of
normalized images, so that it can be held against `data.image_noise`.
"""

import argparse
from collections.abc import Iterator, Sequence
import io
import itertools
import json
from pathlib import Path
import shutil

from array_record.python import array_record_module
import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks import machine
from cnnpool import command_line
from cnnpool.data import cifar10, tfds_files
from cnnpool.data.images import DataError
from cnnpool.data.tfds_records import Records
from cnnpool.files.atomic_write import write_atomically

QUALITIES = (95, 90, 75, 50, 20, 10, 5)
COUNT = 1000  # images measured
SPLITS = ("train", "test")


def compressed(pixels: np.ndarray, quality: int) -> bytes:
    """A JPEG of an image, colours at half the resolution (4:2:0), as PIL writes it by itself."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    return buffer.getvalue()


def opened(encoded: bytes) -> np.ndarray:
    """Pixels of an encoded image."""
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def norm_of_change(images: Sequence[np.ndarray], quality: int) -> tuple[float, float]:
    """Mean and standard deviation over images of ||JPEG(x) - x||, x normalized as CIFAR-10 is."""
    norms = []
    for pixels in images:
        change = opened(compressed(pixels, quality)).astype(np.float64) - pixels
        norms.append(np.linalg.norm(change / 255 / cifar10.STD))
    return float(np.mean(norms)), float(np.std(norms))


def encoded_images(split: str) -> Iterator[tuple[bytes, int]]:
    """Every image of CIFAR-10 as it lies in TFDS's files, and its label."""
    builder = tfds_files.open_builder(tfds_files.data_root(None), cifar10.NAME)
    with tfds_files.reading(builder, split):
        records = Records(builder, split, ["image", "label"])
        for record in tqdm(records.read(range(len(records))), total=len(records), desc=split):
            yield record["image"], int(record["label"])


def example(image: bytes, label: int) -> bytes:
    """A `tf.train.Example` of TFDS's features image and label, label below 128."""

    def field(number: int, content: bytes) -> bytes:
        length, size = bytearray(), len(content)
        while size > 127:
            length.append(size % 128 + 128)
            size //= 128
        return bytes([8 * number + 2, *length, size]) + content

    features = {
        b"label": field(3, field(1, bytes([label]))),  # Int64List
        b"image": field(1, field(1, image)),  # BytesList
    }
    entries = (field(1, field(1, name) + field(2, value)) for name, value in features.items())
    return field(1, b"".join(entries))


def write_copy(quality: int, out: Path) -> Path:
    """The data set at that quality; returns its folder.

    Raises:
      FileExistsError: if it is there.
      DataError: if CIFAR-10 is not.
    """
    builder = tfds_files.open_builder(tfds_files.data_root(None), cifar10.NAME)
    source = Path(str(builder.data_path))
    folder = out / cifar10.NAME / source.name
    if folder.exists():
        raise FileExistsError(f"{folder} exists; take another --out")
    beside = folder.with_name(f".{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    info = json.loads((source / "dataset_info.json").read_text())
    info["description"] = f"{info['description']}; JPEG again, quality {quality}"
    for split in SPLITS:
        name = f"{cifar10.NAME}-{split}.array_record-00000-of-00001"
        writer = array_record_module.ArrayRecordWriter(str(beside / name), "group_size:1")
        count = total = 0
        for image, label in encoded_images(split):
            record = example(compressed(opened(image), quality), label)
            writer.write(record)
            count, total = count + 1, total + len(record)
        writer.close()
        for one in info["splits"]:
            if one["name"] == split:
                one |= {"shardLengths": [str(count)], "numBytes": str(total)}
    (beside / "dataset_info.json").write_text(json.dumps(info, indent=2))
    for name in ("features.json", "label.labels.txt"):
        shutil.copyfile(source / name, beside / name)
    beside.rename(folder)
    return folder


def table() -> str:
    """The norms at all qualities, as Markdown.

    Raises:
      DataError: if CIFAR-10 is not there, or as JPEG copies.
    """
    stored = [image for image, _ in itertools.islice(encoded_images("test"), COUNT)]
    if stored[0].startswith(cifar10.JPEG_MAGIC):
        raise DataError(
            "the images in TFDS_DATA_DIR are JPEG copies already; name a folder of the originals"
        )
    images = [opened(image) for image in stored]
    own = [np.linalg.norm((x / 255 - cifar10.MEAN) / cifar10.STD) for x in images]
    lines = [
        f"# What JPEG changes\n\n{machine.describe()}. Norm of the change of an image of CIFAR-10, "
        f"normalized, mean (standard deviation) over {len(images)} test images. An image itself "
        f"has a norm of {np.mean(own):.1f} ({np.std(own):.1f}).\n",
        "| quality | norm of the change |",
        "|---|---|",
    ]
    for quality in QUALITIES:
        lines.append("| {} | {:.2f} ({:.2f}) |".format(quality, *norm_of_change(images, quality)))
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "benchmarks.jpeg_copies")
    parser.add_argument("--quality", type=int, choices=range(1, 96), metavar="1..95")
    parser.add_argument("--measure", action="store_true", help="the table instead")
    parser.add_argument("--out", type=Path, required=True, help="folder; with --measure .md file")
    args: argparse.Namespace = parser.parse_args(argv)
    if args.measure == (args.quality is not None):
        parser.error("give either --quality or --measure")
    if args.measure:
        text = table()
        write_atomically(args.out, lambda path: path.write_text(f"{text}\n"))
        print(text)
    else:
        print(f"in {write_copy(args.quality, args.out)}")


if __name__ == "__main__":
    command_line.run(main)
