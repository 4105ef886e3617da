"""A user's own arrays: what is accepted, what is refused, and the normalization."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool import data as data_sets
from cnnpool.data import arrays
from cnnpool.data.images import DataError, ImageData

KEY = jax.random.key(0)
FIELDS = {
    "name": "arrays",
    "test_fraction": 0.25,
    "seed": 0,
    "mean": None,
    "std": None,
    "image_noise": 0.0,
}


def some_images(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


def save(folder, **files):
    for name, array in files.items():
        np.save(folder / f"{name}.npy", array)
    return folder


@pytest.fixture
def folder(tmp_path):
    """Forty uint8 images in three classes, which take turns."""
    return save(tmp_path, images=some_images(40, 6, 4, 3), labels=np.arange(40) % 3)


def build(folder, **changes):
    return data_sets.build(ConfigDict({**FIELDS, "data_dir": str(folder), **changes}))


def test_test_images_are_a_disjoint_part_with_their_own_labels(folder):
    data = build(folder)
    assert isinstance(data, ImageData)
    assert (len(data.train.labels), len(data.test.labels), data.classes) == (30, 10, 3)
    labels = {image.tobytes(): place % 3 for place, image in enumerate(some_images(40, 6, 4, 3))}
    seen = {}
    for split in (data.train, data.test):
        assert (split.images.dtype, split.labels.dtype) == (jnp.uint8, jnp.int32)
        for image, label in zip(np.asarray(split.images), split.labels, strict=True):
            seen[image.tobytes()] = int(label)
    assert seen == labels
    other = build(folder, seed=1)
    assert not np.array_equal(data.test.images, other.test.images)


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_training_images_are_normalized_per_channel(tmp_path, dtype):
    # More than one chunk of the moments.
    images = some_images(1500, 3, 2, 2, dtype=dtype)
    images[..., 1] //= 3
    data = build(save(tmp_path, images=images, labels=np.arange(1500) % 2))
    seen = np.asarray(data.normalize(KEY, data.train.images), np.float64)
    unit = 255 if dtype == np.uint8 else 1
    kept = np.asarray(data.train.images, np.float64) / unit
    mean, std = kept.mean((0, 1, 2)), kept.std((0, 1, 2))
    np.testing.assert_allclose(data.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(data.std, std, rtol=1e-12)
    # float32 rounds numbers up to 4 standard deviations.
    np.testing.assert_allclose(seen, (kept - mean) / std, atol=1e-6)


def test_given_mean_and_std_win(folder):
    data = build(folder, mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    expected = (np.asarray(data.test.images) / 255 - (0.5, 0.25, 0.0)) / (0.5, 1.0, 2.0)
    for view in (data.augment, data.normalize):
        np.testing.assert_allclose(view(KEY, data.test.images), expected, atol=1e-6)


def test_images_without_channels_get_one_and_signs_one_output(tmp_path):
    labels = np.where(np.arange(20) % 2, 1.0, -1.0)
    data = build(save(tmp_path, images=some_images(20, 5, 7, dtype=float), labels=labels))
    assert data.train.images.shape == (15, 5, 7, 1)
    assert data.train.images.dtype == jnp.float32
    assert data.classes is None
    assert set(np.asarray(data.train.labels).tolist()) == {-1, 1}


def test_test_files_are_used_where_they_are(folder):
    save(folder, test_images=some_images(8, 6, 4, 3)[::-1], test_labels=np.arange(8) % 2)
    data = build(folder, test_fraction=0)
    assert len(data.train.labels) == 40
    np.testing.assert_array_equal(data.test.images, some_images(8, 6, 4, 3)[::-1])
    np.testing.assert_array_equal(data.test.labels, np.arange(8) % 2)
    with pytest.raises(ValueError, match=r"data.test_fraction is 0.25.*set it to 0"):
        build(folder)


def test_source_tells_data_sets_apart_and_names_no_folder(folder, tmp_path_factory):
    other = save(
        tmp_path_factory.mktemp("other"),
        images=some_images(40, 6, 4, 3) // 2,
        labels=np.arange(40) % 3,
    )
    sources = [build(place).source for place in (folder, folder, other)]
    assert sources[0] == sources[1] != sources[2]
    assert str(folder) not in sources[0]


def test_source_tells_labels_and_test_files_apart(folder):
    labels = np.arange(40) % 3
    test = {"test_images": some_images(8, 6, 4, 3), "test_labels": np.arange(8) % 3}
    others = {"test_images": test["test_images"][::-1]}, {"test_labels": np.arange(8) % 2}
    sources = [build(save(folder, labels=one)).source for one in (labels[::-1], labels)]
    for one in (test, *(test | other for other in others)):
        sources.append(build(save(folder, **one), test_fraction=0).source)
    assert len(set(sources)) == len(sources)


def without(name):
    return lambda folder: (folder / name).unlink()


def replaced(**files):
    return lambda folder: save(folder, **files)


def truncated(size):
    def cut(folder):
        path = folder / "images.npy"
        path.write_bytes(path.read_bytes()[:size])

    return cut


def no_array(folder):
    (folder / "images.npy").write_bytes(b"PNG, or so" * 20)


NAN = some_images(40, 6, 4, 3, dtype=np.float32)
NAN[7, 1, 2, 0] = np.nan
HUGE = some_images(40, 6, 4, 3, dtype=np.float64)
HUGE[9] = 1e300
TEST_IMAGES = some_images(8, 6, 4, 3)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("images.npy"), r"images.npy does not exist"),
        (without("labels.npy"), r"labels.npy does not exist"),
        (truncated(0), "images.npy cannot be read"),
        (truncated(60), "images.npy cannot be read"),
        (truncated(2000), "images.npy cannot be read.*truncated"),
        (no_array, "images.npy cannot be read.*magic"),
        (replaced(images=np.array([{"a": 1}] * 40)), "images.npy cannot be read.*allow_pickle"),
        (replaced(images=np.zeros((40, 6))), r"shape \(40, 6\); expected \(images, height"),
        (replaced(images=np.zeros((40, 6, 4, 3, 1))), r"shape \(40, 6, 4, 3, 1\)"),
        (replaced(images=np.zeros((0, 6, 4, 3))), "none of them 0"),
        (replaced(images=np.zeros((40, 3, 6, 6))), r"channels seem to come first: save images\.tr"),
        (replaced(images=np.zeros((40, 6, 4), int)), "type int64; .*astype\\(numpy.uint8\\)"),
        (replaced(images=NAN), "not finite.* 1 images, the first at index 7"),
        (replaced(images=HUGE), "not finite.* 1 images, the first at index 9"),
        (replaced(labels=np.arange(39) % 3), "40 images and .* 39 labels"),
        (replaced(labels=np.zeros((40, 1))), r"shape \(40, 1\).*save labels\[:, 0\]"),
        (replaced(labels=np.arange(40) % 3 + 0.5), "holds 0.5 at index 0; expected whole"),
        (replaced(labels=np.full(40, np.nan)), "holds nan at index 0"),
        (replaced(labels=np.array(["cat"] * 40)), "type <U3; expected whole .*numpy.unique"),
        (
            replaced(labels=2 * (np.arange(40) % 3)),
            "labels 0, 2, 4; expected .* without gaps.*numpy.unique",
        ),
        (replaced(labels=np.zeros(40, int)), "the labels 0; expected at least two classes"),
        (replaced(labels=np.arange(40) % 3 - 1), "the labels -1, 0, 1;"),
        (replaced(test_images=TEST_IMAGES), "test_labels.npy does not exist"),
        (
            replaced(test_images=TEST_IMAGES[:, :5], test_labels=np.arange(8) % 3),
            r"shape \(5, 4, 3\), uint8; expected \(6, 4, 3\), uint8, as in images.npy",
        ),
        (
            replaced(test_images=TEST_IMAGES / 255, test_labels=np.arange(8) % 3),
            "float32; expected .*uint8, as in images.npy",
        ),
        (
            replaced(test_images=TEST_IMAGES, test_labels=np.arange(8)),
            r"test_labels.npy has the label 3; expected 0..2, as in labels.npy",
        ),
    ],
)
def test_damaged_and_unfit_files_are_refused_with_the_reason(folder, damage, message):
    damage(folder)
    fraction = 0 if (folder / "test_images.npy").exists() else 0.25
    with pytest.raises(DataError, match=message):
        build(folder, test_fraction=fraction)


def test_objects_that_run_code_are_not_loaded(folder):
    class Trap:
        def __reduce__(self):
            return (folder.joinpath("sprung").touch, ())

    np.save(folder / "labels.npy", np.array([Trap()] * 40), allow_pickle=True)
    with pytest.raises(DataError, match=r"labels\.npy cannot be read"):
        build(folder)
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_dir": None}, "data.data_dir must name the folder"),
        ({"test_fraction": 0}, "at least one for testing"),
        ({"test_fraction": None}, "at least one for testing"),
        ({"test_fraction": np.nan}, "test_fraction nan of 40 images"),
        ({"test_fraction": 1.0}, "one for training"),
        ({"image_noise": -1.0}, "image_noise must be 0 or positive, got -1.0"),
        ({"mean": (0.5,)}, "for each of 3 channels"),
        ({"std": (0.5, 0.0, 1.0)}, "positive stds"),
    ],
)
def test_impossible_fields_are_refused(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        build(folder, **changes)


def test_a_constant_channel_needs_a_std(folder):
    images = some_images(40, 6, 4, 3)
    images[..., 2] = 9
    save(folder, images=images)
    with pytest.raises(ValueError, match="constant"):
        build(folder)
    assert np.isfinite(
        arrays.build(
            ConfigDict({**FIELDS, "data_dir": str(folder), "std": (1.0, 1.0, 1.0)})
        ).normalize(KEY, jnp.asarray(images))
    ).all()


def test_a_file_system_that_maps_nothing_is_read(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.arange(3))

    def refuse(*_, **__):
        raise OSError(19, "No such device")

    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    assert arrays.read_npy(tmp_path / "a.npy", mapped=True).tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="does not exist"):
        arrays.read_npy(tmp_path / "b.npy", mapped=True)
