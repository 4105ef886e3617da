"""CIFAR-10: reading it, what happens where it is absent or damaged, and its views."""

import functools
import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool import data as data_sets
from cnnpool.data import cifar10, images, tfds_files
from cnnpool.data.images import DataError, Split, StandardizedImages
from tests.paths import ROOT

MEAN = np.array([0.4914, 0.4822, 0.4465])
STD = np.array([0.2023, 0.1994, 0.2010])
PUBLISHED_MEAN = (0.49139968, 0.48215841, 0.44653091)  # of all pixels of the training images
PUBLISHED_STD = (0.24703223, 0.24348513, 0.26158784)


def config(data_dir, **changes):
    fields = {"name": "cifar10", "data_dir": data_dir and str(data_dir), "image_noise": 0.0}
    sizes = {"augmentation": True, "train_size": 200, "test_size": 100}
    return ConfigDict({**fields, **sizes, **changes})


def random_images(count, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)
    return jnp.asarray(pixels)


def made_up(**changes):
    """The data set without its files."""
    part = Split(random_images(4), jnp.arange(4, dtype=jnp.int32))
    fields = {"train": part, "test": part, "classes": 10, "source": "made up"}
    view = functools.partial(images.crop_and_flip, padding=cifar10.PADDING)
    views = {"mean": cifar10.MEAN, "std": cifar10.STD, "image_noise": 0.0, "random_view": view}
    return StandardizedImages(**{**fields, **views, **changes})


def all_views(image, padding):
    """Every crop of one image and its mirror image, by its bytes: (row, column, mirrored)."""
    height, width, _ = image.shape
    found = {}
    for row in range(-padding, padding + 1):
        for column in range(-padding, padding + 1):
            crop = np.zeros_like(image)
            for y in range(height):
                for x in range(width):
                    if 0 <= y + row < height and 0 <= x + column < width:
                        crop[y, x] = image[y + row, x + column]
            found[crop.tobytes()] = (row, column, False)
            found[np.ascontiguousarray(crop[:, ::-1]).tobytes()] = (row, column, True)
    return found


def test_crops_are_all_81_offsets_and_half_are_mirrored():
    image, draws = np.asarray(random_images(1)[0]), 4000
    views = all_views(image, padding=4)
    assert len(views) == 2 * 81
    stack = jnp.broadcast_to(jnp.asarray(image), (draws, *image.shape))
    cut = np.asarray(jax.jit(made_up().random_view)(jax.random.key(0), stack))
    assert cut.dtype == np.uint8
    seen = [views[crop.tobytes()] for crop in cut]
    counts = np.array([seen.count(view) for view in views.values()])
    # Chi squared of 161 degrees of freedom: mean 161, standard deviation 18.
    expected = draws / len(views)
    assert abs(((counts - expected) ** 2 / expected).sum() - 161) < 5 * 18
    assert {view[:2] for view in seen} == {view[:2] for view in views.values()}
    mirrored = sum(view[2] for view in seen)
    assert abs(mirrored / draws - 0.5) < 5 * 0.5 / np.sqrt(draws)


def test_crops_of_other_shapes_keep_them():
    image = np.asarray(random_images(1)[0, :5, :8, :1])
    cut = images.crop_and_flip(jax.random.key(1), jnp.asarray(image)[None], padding=2)
    assert np.asarray(cut[0]).tobytes() in all_views(image, padding=2)


def test_normalization_is_the_protocol_s_and_the_key_unused():
    data, stored = made_up(), random_images(8)
    expected = (np.asarray(stored, np.float64) / 255 - MEAN) / STD
    for seed in (0, 1):
        seen = data.normalize(jax.random.key(seed), stored)
        assert seen.dtype == jnp.float32
        np.testing.assert_allclose(seen, expected, atol=1e-6)  # float32 at values up to 3


def test_black_around_the_image_is_black_before_normalization():
    views = made_up().augment(jax.random.key(0), jnp.full((64, 32, 32, 3), 255, jnp.uint8))
    corners = np.asarray(views[:, [0, 0, -1, -1], [0, -1, 0, -1]]).reshape(-1, 3)
    black, white = -MEAN / STD, (1 - MEAN) / STD
    distance = [np.abs(corners - colour).max(1) for colour in (black, white)]
    assert np.minimum(*distance).max() < 1e-6
    assert min((d < 1e-6).sum() for d in distance) > 0


@pytest.mark.parametrize("size", [0.1, 30.0])
def test_image_noise_has_the_norm_asked_for_and_is_fresh_at_each_access(size):
    data, clean = made_up(image_noise=size), made_up()
    stored = random_images(200)
    for view in ("normalize", "augment"):
        keys = jax.random.split(jax.random.key(3))
        first, second = (getattr(data, view)(key, stored) for key in keys)
        assert not np.array_equal(first, second)
    noise = np.asarray(data.normalize(keys[0], stored) - clean.normalize(keys[0], stored))
    power = (noise.reshape(200, -1).astype(np.float64) ** 2).sum(1)
    # A sum of 200 * 3072 squares of N(0, 1): five standard errors; 1e-4 for float32's rounding
    # of x + eta, which is 1e-7 of x against noise of 0.1 / sqrt(3072) a pixel.
    tolerance = 5 * np.sqrt(2 / noise.size) + 1e-4
    assert abs(power.mean() / size**2 - 1) < tolerance
    assert abs(noise.mean()) < 5 * size / np.sqrt(3072) / np.sqrt(noise.size)


def test_noise_of_augmented_images_is_added_to_the_same_views():
    data, clean, key = made_up(image_noise=1.0), made_up(), jax.random.key(5)
    stored = random_images(50)
    noise = np.asarray(data.augment(key, stored) - clean.augment(key, stored))
    power = (noise.reshape(50, -1).astype(np.float64) ** 2).sum(1).mean()
    assert abs(power - 1) < 5 * np.sqrt(2 / noise.size)


def test_views_compile_and_vectorize_over_seeds():
    data = made_up(image_noise=1.0)
    keys = jax.random.split(jax.random.key(0), 2)
    stored = jnp.stack([random_images(4), random_images(4, seed=1)])
    for view in (data.augment, data.normalize):
        together = jax.jit(jax.vmap(view))(keys, stored)
        for row in range(2):
            # One program fuses what the other does not: one rounding at values up to 3.
            np.testing.assert_allclose(together[row], view(keys[row], stored[row]), atol=1e-6)


def test_subsets_are_the_beginning_of_one_permutation():
    np.testing.assert_array_equal(cifar10.subset(50, None, "x"), np.arange(50))
    np.testing.assert_array_equal(cifar10.subset(50, 0, "x"), np.arange(50))
    whole = cifar10.subset(50, 50, "x")
    assert sorted(whole) == list(range(50))
    assert not np.array_equal(whole, np.arange(50))
    np.testing.assert_array_equal(cifar10.subset(50, 7, "x"), whole[:7])
    for size in (51, -1):
        with pytest.raises(ValueError, match=rf"x must be between 1 and 50.*got {size}"):
            cifar10.subset(50, size, "x")


def test_data_root_is_the_one_given_then_the_environment_s_then_tfds_s(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "there")
    assert tfds_files.data_root("here") == "here"
    assert tfds_files.data_root(None) == "there"
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert tfds_files.data_root(None) == "~/tensorflow_datasets"


def test_absent_data_is_an_error_that_says_how_to_prepare_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    # A download that was stopped leaves such a folder behind.
    (tmp_path / "cifar10" / "3.0.2.incompleteABC").mkdir(parents=True)
    (tmp_path / "cifar10" / "3.0.2.incompleteABC" / "dataset_info.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        data_sets.build(config(None))
    message = str(caught.value)
    for part in (str(tmp_path / "cifar10"), "data.data_dir", "TFDS_DATA_DIR", "array_record"):
        assert part in message
    assert "download_and_prepare()" in message
    assert not list(tmp_path.glob("downloads"))


def copy_of(cifar10_dir, target):
    """The data set's folder with links to its shards and copies of its small files."""
    original = cifar10_dir / "cifar10" / "3.0.2"
    copy = target / "cifar10" / "3.0.2"
    copy.mkdir(parents=True)
    for path in original.iterdir():
        if path.suffix in (".json", ".txt"):
            (copy / path.name).write_bytes(path.read_bytes())
        else:
            (copy / path.name).symlink_to(path)
    return copy


def test_a_truncated_shard_is_an_error_that_names_split_and_file(cifar10_dir, tmp_path):
    (shard,) = copy_of(cifar10_dir, tmp_path).glob("*-test.*")
    content = shard.read_bytes()
    shard.unlink()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        DataError, match=rf"the test split.*may be truncated or damaged.*{shard.name}"
    ):
        data_sets.build(config(tmp_path))


def test_damage_within_a_shard_is_an_error(cifar10_dir, tmp_path):
    (shard,) = copy_of(cifar10_dir, tmp_path).glob("*-test.*")
    content = shard.read_bytes()
    shard.unlink()
    half = len(content) // 2
    shard.write_bytes(content[:half] + bytes(200_000) + content[half + 200_000 :])
    with pytest.raises(DataError, match=r"the test split.*hash mismatch"):
        data_sets.build(config(tmp_path, train_size=10, test_size=2000))


def test_a_missing_shard_is_an_error(cifar10_dir, tmp_path):
    shard = sorted(copy_of(cifar10_dir, tmp_path).glob("*-train.*"))[-1]
    shard.unlink()
    with pytest.raises(DataError, match=r"the train split.*No such file"):
        data_sets.build(config(tmp_path))


def test_a_damaged_description_is_an_error(cifar10_dir, tmp_path):
    (copy_of(cifar10_dir, tmp_path) / "dataset_info.json").write_text('{"name": "cif')
    with pytest.raises(DataError, match="cannot read the description"):
        data_sets.build(config(tmp_path))


def test_another_file_format_is_an_error_that_says_how_to_convert(cifar10_dir, tmp_path):
    info = copy_of(cifar10_dir, tmp_path) / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "fileFormat": "riegeli"}))
    with pytest.raises(
        DataError, match=r"(?s)as riegeli; expected array_record or tfrecord.*tfds convert_format"
    ):
        data_sets.build(config(tmp_path))


def test_a_part_of_the_data_is_read_and_described(cifar10_dir):
    data = data_sets.build(config(cifar10_dir))
    assert isinstance(data, images.ImageData)
    for split, size in ((data.train, 200), (data.test, 100)):
        assert split.images.shape == (size, 32, 32, 3)
        assert (split.images.dtype, split.labels.dtype) == (jnp.uint8, jnp.int32)
        assert set(np.asarray(split.labels).tolist()) == set(range(10))
    assert data.classes == 10
    assert data.source.startswith("cifar10 3.0.2 (TFDS")
    assert data.source == "cifar10 3.0.2 (TFDS)"
    # Images are those of TFDS's own reader, in the order of the subset.
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(cifar10_dir / "cifar10/3.0.2")
    records = builder.as_data_source(split="test")
    for row, index in list(enumerate(cifar10.subset(10_000, 100, "")))[:20]:
        np.testing.assert_array_equal(data.test.images[row], records[int(index)]["image"])
        assert data.test.labels[row] == records[int(index)]["label"]
    plain = data_sets.build(config(cifar10_dir, augmentation=False, train_size=10))
    np.testing.assert_array_equal(plain.train.images, data.train.images[:10])
    for view in (plain.augment, plain.normalize):
        expected = (np.asarray(plain.train.images, np.float64) / 255 - MEAN) / STD
        np.testing.assert_allclose(view(jax.random.key(0), plain.train.images), expected, atol=1e-6)


def test_images_of_another_shape_are_refused(cifar10_dir, monkeypatch):
    monkeypatch.setattr(cifar10, "SHAPE", (28, 28, 3))
    with pytest.raises(
        DataError, match=r"an image has shape \(32, 32, 3\), expected \(28, 28, 3\)"
    ):
        data_sets.build(config(cifar10_dir))


def test_reading_does_not_import_tensorflow(cifar10_dir, tmp_path):
    # A stand-in that is found where TensorFlow is not installed, so that the test can fail.
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text("")
    program = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from ml_collections import ConfigDict
        from cnnpool import data
        assert "tensorflow_datasets" not in sys.modules
        data.build(ConfigDict({config(cifar10_dir).to_dict()!r}))
        assert "tensorflow_datasets" in sys.modules
        print("tensorflow" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_all_of_it_is_balanced_and_has_the_protocol_s_mean(cifar10_dir):
    data = data_sets.build(config(cifar10_dir, train_size=None, test_size=None))
    for split, size in ((data.train, 50_000), (data.test, 10_000)):
        np.testing.assert_array_equal(np.bincount(split.labels), np.full(10, size // 10))
    pixels = np.asarray(data.train.images).reshape(-1, 3).astype(np.float64) / 255
    np.testing.assert_allclose(pixels.mean(0), PUBLISHED_MEAN, atol=1e-8)
    np.testing.assert_allclose(pixels.std(0), PUBLISHED_STD, atol=1e-8)
    np.testing.assert_allclose(PUBLISHED_MEAN, MEAN, atol=1e-4)  # the protocol's is rounded


def test_jpeg_copies_are_the_same_images_and_say_what_they_are(cifar10_dir, jpeg_dir):
    originals, copies = (
        data_sets.build(config(folder, train_size=1, test_size=500))
        for folder in (cifar10_dir, jpeg_dir)
    )
    assert copies.source.endswith("; JPEG copies of the images, not the originals)")
    np.testing.assert_array_equal(originals.test.labels, copies.test.labels)
    key = jax.random.key(0)
    x, y = (np.asarray(one.normalize(key, one.test.images)) for one in (originals, copies))
    norms = np.linalg.norm((x - y).reshape(len(x), -1), axis=1)
    # 8.5 with a spread of 2.1 over all images (protocol, section 7); of others it would be 90.
    assert abs(norms.mean() - 8.5) < 5 * 2.1 / np.sqrt(len(x))
