"""Image sets in TFDS's format: written by TFDS, as array_record, or by hand, as tfrecord."""

import io
import json
import shutil

from array_record.python.array_record_module import ArrayRecordReader
import numpy as np
from PIL import Image
import tensorflow_datasets as tfds


def encoded(pixels, kind="png"):
    """A picture file, as TFDS takes it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(folder, splits, *, features=None, supervised=("image", "label"), name="little"):
    """Lets TFDS prepare a set in `folder`.

    Args:
      folder: TFDS's.
      splits: {name: list of examples}.
      features: of each; images of any size with three channels, and three classes.
      supervised: which of them are input and target.
      name: of the set.
    """
    kinds = features or {"image": tfds.features.Image(), "label": classes(3)}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tfds.core.Path(folder)
        code_path = None

        def _info(self):
            described = tfds.features.FeaturesDict(kinds)
            return tfds.core.DatasetInfo(
                builder=self, features=described, supervised_keys=supervised
            )

        def _split_generators(self, manager):
            return {split: enumerate(map(_opened, made)) for split, made in splits.items()}

        def _generate_examples(self):
            raise NotImplementedError

    Builder.name = name
    builder = Builder(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder / name / "1.0.0"


def _opened(example):
    """Pictures as open files, which TFDS stores as they are, without TensorFlow."""
    return {k: io.BytesIO(v) if isinstance(v, bytes) else v for k, v in example.items()}


def classes(count):
    """Labels 0 to count - 1."""
    return tfds.features.ClassLabel(num_classes=count)


def examples(count, shape=(8, 8, 3), seed=0, n_classes=3, kind="png"):
    """Random pictures and their labels."""
    random = np.random.default_rng(seed)
    squeezed = shape[:2] if shape[-1] == 1 else shape
    return [
        {
            "image": encoded(random.integers(0, 256, squeezed, np.uint8), kind),
            "label": number % n_classes,
        }
        for number in range(count)
    ]


def as_tfrecord(version, target):
    """A copy of a set whose records lie in tfrecord files."""
    target.mkdir(parents=True)
    for path in version.iterdir():
        if ".array_record" not in path.name:
            shutil.copy(path, target)
            continue
        reader = ArrayRecordReader(str(path))
        records = reader.read_all()
        reader.close()
        framed = b"".join(map(frame, records))
        (target / path.name.replace(".array_record", ".tfrecord")).write_bytes(framed)
    info = target / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "fileFormat": "tfrecord"}))
    return target


def frame(content):
    """A record of a tfrecord file, with its checksums computed bit by bit."""
    length = len(content).to_bytes(8, "little")
    return length + masked(length) + content + masked(content)


def masked(content):
    crc = crc32c(content)
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return ((rotated + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def crc32c(content):
    """Castagnoli's polynomial, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
