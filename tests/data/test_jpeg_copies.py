"""Copies of CIFAR-10 that JPEG compresses again: TFDS reads them, and only pixels differ."""

import numpy as np
import pytest

from benchmarks import jpeg_copies
from cnnpool.data import cifar10, tfds_files


def made_up(count):
    """Images that JPEG changes little, not noise."""
    ramp = np.linspace(0, 200, 32)
    rng = np.random.default_rng(0)
    return [
        np.uint8(ramp[:, None, None] * 0.5 + ramp[None, :, None] * 0.3 + rng.uniform(0, 50, 3))
        for _ in range(count)
    ]


def test_tfds_reads_the_copy(cifar10_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(cifar10_dir))
    pictures = made_up(5)
    encoded = [(jpeg_copies.compressed(x, 95), label) for label, x in enumerate(pictures)]
    monkeypatch.setattr(jpeg_copies, "encoded_images", lambda _: iter(encoded))
    folder = jpeg_copies.write_copy(20, tmp_path)
    builder = tfds_files.open_builder(str(tmp_path), cifar10.NAME)
    assert "quality 20" in builder.info.description
    for split in jpeg_copies.SPLITS:
        records = builder.as_data_source(split=split)
        assert [int(record["label"]) for record in records] == list(range(5))
        for record, (image, _) in zip(records, encoded, strict=True):
            again = jpeg_copies.opened(jpeg_copies.compressed(jpeg_copies.opened(image), 20))
            np.testing.assert_array_equal(record["image"], again)
    with pytest.raises(FileExistsError, match="take another --out"):
        jpeg_copies.write_copy(20, tmp_path)
    assert folder.parent.parent == tmp_path


def test_all_images_and_labels_are_passed_on(cifar10_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(cifar10_dir))
    found = list(jpeg_copies.encoded_images("test"))
    assert np.bincount([label for _, label in found]).tolist() == [1000] * 10


def test_the_norm_is_that_of_normalized_images():
    pictures = made_up(4)
    mean, spread = jpeg_copies.norm_of_change(pictures, 30)
    norms = []
    for x in pictures:
        y = jpeg_copies.opened(jpeg_copies.compressed(x, 30))
        one, two = ((z / 255 - cifar10.MEAN) / cifar10.STD for z in (x, y))
        norms.append(np.sqrt(((one - two) ** 2).sum()))
    np.testing.assert_allclose([mean, spread], [np.mean(norms), np.std(norms)], rtol=1e-12)
    assert mean > jpeg_copies.norm_of_change(pictures, 95)[0] > 0
