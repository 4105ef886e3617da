"""Image sets of TFDS: what comes from the data, and what cannot be used."""

import io

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

from cnnpool import data as data_sets
from cnnpool.configs import tfds as tfds_config
from cnnpool.data import tfds_records
from cnnpool.data.images import DataError
from tests.data import tfds_sets
from tests.data.tfds_sets import classes, examples


def config(folder, **fields):
    made = tfds_config.get_config()
    with made.unlocked():
        made.data.dataset, made.data.data_dir = "little", str(folder)
        for name, value in fields.items():
            made.data[name] = value
    return made


@pytest.fixture(params=["array_record", "tfrecord"])
def folder(request, tmp_path):
    """A set of 30 training and 12 test images in two formats."""
    version = tfds_sets.write(tmp_path, {"train": examples(30), "test": examples(12, seed=1)})
    if request.param == "array_record":
        return tmp_path
    tfds_sets.as_tfrecord(version, tmp_path / "other" / "little" / "1.0.0")
    return tmp_path / "other"


def of(splits, tmp_path, *, set_features=None, supervised=("image", "label"), **fields):
    """The data set that these splits make."""
    tfds_sets.write(tmp_path, splits, features=set_features, supervised=supervised)
    return data_sets.build(config(tmp_path, **fields).data)


def test_sizes_classes_and_statistics_come_from_the_data(folder):
    data = data_sets.build(config(folder).data)
    assert data.train.images.shape == (30, 8, 8, 3)
    assert data.test.images.shape == (12, 8, 8, 3)
    assert (data.train.images.dtype, data.train.labels.dtype) == (jnp.uint8, jnp.int32)
    assert (data.classes, data.source) == (3, "little/1.0.0 (TFDS)")
    pixels = np.asarray(data.train.images, np.float64) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-12)
    assert data_sets.completed(config(folder)).model.outputs == 3


def test_images_and_labels_are_the_ones_that_were_written(folder):
    """TFDS shuffles them; together they are the same."""
    data = data_sets.build(config(folder).data)
    written = {
        (np.asarray(Image.open(io.BytesIO(one["image"]))).tobytes(), one["label"])
        for one in examples(30)
    }
    pairs = zip(np.asarray(data.train.images), np.asarray(data.train.labels), strict=True)
    assert {(image.tobytes(), int(label)) for image, label in pairs} == written


def test_parts_of_splits_and_sizes(folder):
    parts = {"train_split": "train[:80%]", "test_split": "train[80%:]"}
    whole, parted = (data_sets.build(config(folder, **f).data) for f in ({}, parts))
    np.testing.assert_array_equal(parted.train.images, whole.train.images[:24])
    np.testing.assert_array_equal(parted.test.labels, whole.train.labels[24:])
    assert len(data_sets.build(config(folder, train_size=7).data).train.labels) == 7


def test_gray_images_have_one_channel(tmp_path):
    kinds = {"image": tfds.features.Image(shape=(28, 28, 1)), "label": classes(3)}
    made = {"train": examples(9, (28, 28, 1)), "test": examples(6, (28, 28, 1))}
    data = of(made, tmp_path, set_features=kinds)
    assert data.train.images.shape == (9, 28, 28, 1)
    assert len(data.mean) == 1


def test_images_of_several_sizes_are_named_then_fitted(tmp_path):
    mixed = [*examples(5, (8, 12, 3)), *examples(4, (20, 10, 3), seed=2)]
    splits = {"train": mixed, "test": examples(4, (9, 9, 3))}
    tfds_sets.write(tmp_path, splits)
    with pytest.raises(DataError, match=r"set data.image_size"):
        data_sets.build(config(tmp_path).data)
    data = data_sets.build(config(tmp_path, image_size=8).data)
    assert data.train.images.shape == (9, 8, 8, 3)
    # The middle of 8 x 12 pixels, which need no resizing, is two columns from the border.
    written = {
        np.asarray(Image.open(io.BytesIO(one["image"])))[:, 2:10].tobytes() for one in mixed[:5]
    }
    assert written <= {image.tobytes() for image in np.asarray(data.train.images)}


def test_square_images_of_two_sizes_are_counted(tmp_path):
    splits = {"train": [*examples(5), *examples(2, (9, 9, 3), seed=2)], "test": examples(3)}
    with pytest.raises(DataError, match=r"2 sizes, from 8 x 8 to 9 x 9, 5 of 7 are 8 x 8"):
        of(splits, tmp_path)


def test_a_set_without_test_images_says_how_to_take_a_part(tmp_path):
    with pytest.raises(ValueError, match=r"splits are train; .*train_split='train\[:80%\]'"):
        of({"train": examples(9)}, tmp_path)


def test_validation_is_the_test_split_where_there_is_no_other(tmp_path):
    data = of({"train": examples(9), "validation": examples(6, seed=3)}, tmp_path)
    assert len(data.test.labels) == 6


def test_several_labels_are_told_apart_by_the_supervised_one_or_the_config(tmp_path):
    kinds = {"image": tfds.features.Image(), "label": classes(3), "coarse": classes(2)}
    made = [one | {"coarse": one["label"] // 2} for one in examples(9)]
    tfds_sets.write(tmp_path / "a", {"train": made, "test": made}, features=kinds)
    assert data_sets.build(config(tmp_path / "a").data).classes == 3
    coarse = config(tmp_path / "a", label_feature="coarse")
    assert data_sets.build(coarse.data).classes == 2
    splits = {"train": made, "test": made}
    with pytest.raises(ValueError, match=r"several: set data.label_feature to one of .*coarse"):
        of(splits, tmp_path / "b", set_features=kinds, supervised=None)


def test_two_images_of_an_example_have_to_be_chosen(tmp_path):
    kinds = {"left": tfds.features.Image(), "right": tfds.features.Image(), "which": classes(2)}
    pairs = zip(examples(6), examples(6, (6, 6, 3)), strict=True)
    made = [
        {"left": one["image"], "right": other["image"], "which": number % 2}
        for number, (one, other) in enumerate(pairs)
    ]
    tfds_sets.write(tmp_path, {"train": made, "test": made}, features=kinds, supervised=None)
    with pytest.raises(ValueError, match=r"set data.image_feature to one of left, right"):
        data_sets.build(config(tmp_path).data)
    data = data_sets.build(config(tmp_path, image_feature="right").data)
    assert data.train.images.shape == (6, 6, 6, 3)


@pytest.mark.parametrize(
    ("kinds", "change", "message"),
    [
        ({"label": classes(1)}, {"label": 0}, r"one class by 'label'; expected two or more"),
        (
            {"label": tfds.features.ClassLabel(num_classes=3)},
            {"label": -1},
            r"9 of 9 images .* have no label, such as -1",
        ),
        (
            {"label": tfds.features.Text()},
            {"label": "cat"},
            r"no label to train on.*label \(Text\)",
        ),
        (
            {"image": tfds.features.Text()},
            {"image": "cat"},
            r"no image to train on.*image \(Text\)",
        ),
    ],
)
def test_sets_that_cannot_be_trained_on_say_why(kinds, change, message, tmp_path):
    whole = {"image": tfds.features.Image(), "label": classes(3)} | kinds
    splits = {split: [one | change for one in examples(9)] for split in ("train", "test")}
    with pytest.raises(DataError, match=message):
        of(splits, tmp_path, set_features=whole, supervised=None)


def test_labels_that_are_plain_numbers_are_counted(tmp_path):
    kinds = {"image": tfds.features.Image(), "digit": tfds.features.Scalar(np.int64)}

    def rename(made):
        return [{"image": one["image"], "digit": one["label"]} for one in made]

    splits = {"train": rename(examples(9, n_classes=4)), "test": rename(examples(6))}
    data = of(splits, tmp_path, set_features=kinds, supervised=None)
    assert data.classes == 4
    assert data_sets.completed(config(tmp_path)).model.outputs == 4


def test_images_that_are_not_square_are_refused(tmp_path):
    splits = {split: examples(4, (6, 8, 3)) for split in ("train", "test")}
    with pytest.raises(DataError, match=r"are 6 x 8; expected square .*--config.data.image_size=6"):
        of(splits, tmp_path)


def test_unknown_splits_are_named(folder):
    with pytest.raises(
        ValueError, match=r"test_split is 'tset'; expected one of little's splits, train, test"
    ):
        data_sets.build(config(folder, test_split="tset").data)


@pytest.mark.parametrize(
    ("test_split", "common"), [("train", 30), ("train[80%:]", 6), ("test+train[:2]", 2)]
)
def test_splits_with_common_images_are_refused(folder, test_split, common):
    with pytest.raises(ValueError, match=rf"have {common} images in common"):
        data_sets.build(config(folder, test_split=test_split).data)


def test_no_set_is_named_or_it_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"--config.data.dataset=cifar100"):
        data_sets.build(config(tmp_path, dataset=None).data)
    with pytest.raises(DataError, match=r"(?s)no little.*download_and_prepare"):
        data_sets.build(config(tmp_path).data)


def test_checksums_are_those_of_the_format():
    assert tfds_sets.crc32c(b"123456789") == 0xE3069283  # RFC 3720's check value
    random = np.random.default_rng(0)
    contents = [random.bytes(length) for length in (0, 7, 300, 1, 8, 300)]
    expected = [int.from_bytes(tfds_sets.masked(one), "little") for one in contents]
    assert tfds_records.masked_crc32c(contents).tolist() == expected


@pytest.mark.parametrize("place", [3, 9, 40, -2, "end"])
def test_damage_of_a_tfrecord_file_is_found(place, tmp_path):
    version = tfds_sets.write(tmp_path / "a", {"train": examples(6), "test": examples(3)})
    copy = tfds_sets.as_tfrecord(version, tmp_path / "b" / "little" / "1.0.0")
    (shard,) = copy.glob("*-train.tfrecord*")
    content = bytearray(shard.read_bytes())
    if place == "end":
        del content[-1:]
    else:
        content[place] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"the train split.*(damaged|truncated) .*-train"):
        data_sets.build(config(tmp_path / "b").data)
