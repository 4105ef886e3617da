"""Scale detection in two dimensions, against its oracle and by laws."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool import data as data_sets
from cnnpool.data import images as images_module
from cnnpool.data import scale2d
from tests.oracles import scale2d as oracle

TASK = {"size": 6, "scale": 3, "gap": 1, "distance": "euclidean", "periodic": False}
PAPER = {**TASK, "size": 28, "scale": 14, "gap": 2}


def build(**changes):
    fields = {"name": "scale2d", **TASK, "train_size": 32, "test_size": 64, "seed": 0, **changes}
    return data_sets.build(ConfigDict(fields))


def places(pairs):
    return {tuple(map(tuple, pair)) for pair in np.asarray(pairs).tolist()}


def test_paper_task_has_130206_positive_and_145202_negative_of_306936_pairs():
    assert len(scale2d.all_pairs(28)) == 306_936
    _, labels = scale2d.labelled_pairs(**PAPER)
    assert ((labels == 1).sum(), (labels == -1).sum()) == (130_206, 145_202)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("distance", ["euclidean", "linf"])
@pytest.mark.parametrize(("size", "scale", "gap"), [(6, 2.5, 1), (6, 2, 0), (5, 1.5, 0.5)])
def test_pairs_and_labels_agree_with_the_oracle(size, scale, gap, distance, periodic):
    pairs, labels = scale2d.labelled_pairs(
        size=size, scale=scale, gap=gap, distance=distance, periodic=periodic
    )
    expected = []
    for p, q in oracle.all_pairs(size):
        y = oracle.label(oracle.distance(p, q, size, distance, periodic), scale, gap)
        if y:
            expected.append((p, q, y))
    np.testing.assert_array_equal(pairs, [(p, q) for p, q, _ in expected])
    np.testing.assert_array_equal(labels, [y for _, _, y in expected])


def test_images_have_half_d_squared_at_two_pixels_and_coincident_ones_add():
    pairs = jnp.array([[[0, 0], [5, 2]], [[3, 4], [3, 4]]])
    rendered = np.asarray(scale2d.render(pairs, size=6))
    expected = [oracle.image((0, 0), (5, 2), 6), oracle.image((3, 4), (3, 4), 6)]
    np.testing.assert_array_equal(rendered[..., 0], expected)
    assert rendered.max() == 36


def test_build_draws_balanced_disjoint_images_with_their_labels():
    data = build()
    assert isinstance(data, images_module.ImageData)
    assert data.classes is None
    for split, pairs in ((data.train, data.train_pairs), (data.test, data.test_pairs)):
        assert split.images.dtype == jnp.float32
        assert split.labels.dtype == jnp.int32
        for image, y, (p, q) in zip(*map(np.asarray, split), pairs, strict=True):
            np.testing.assert_array_equal(image[..., 0], oracle.image(p, q, 6))
            assert y == oracle.label(oracle.distance(p, q, 6, "euclidean", False), 3, 1)
        # Every even prefix is balanced too, so that the first images are a fair sample.
        np.testing.assert_array_equal(np.cumsum(split.labels)[1::2], 0)
    assert (len(data.train.labels), len(data.test.labels)) == (32, 64)
    assert len(places(data.train_pairs) | places(data.test_pairs)) == 96


def test_test_images_depend_on_the_seed_and_not_on_the_training_size():
    tests = [places(build(**c).test_pairs) for c in ({}, {"train_size": 64}, {"seed": 1})]
    assert tests[0] == tests[1] != tests[2]


def test_views_are_the_images_themselves():
    data = build()
    for view in (data.augment, data.normalize):
        np.testing.assert_array_equal(
            view(jax.random.key(0), data.test.images), data.test.images, strict=True
        )


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("pair", [((2, 3), (4, 1)), ((0, 0), (5, 3)), ((2, 2), (2, 4))])
def test_moves_follow_the_exact_distribution(pair, periodic):
    data, draws = build(periodic=periodic), 4000
    keys = jax.random.split(jax.random.key(0), draws)
    moved = scale2d.render(jax.vmap(data.move, (0, None))(keys, jnp.array(pair)), size=6)
    expected = oracle.moved_images(*pair, 6, periodic)
    seen = [image.tobytes() for image in np.asarray(moved[..., 0], np.float64)]
    assert set(seen) <= set(expected)
    for name, probability in expected.items():
        # Five standard deviations of a binomial frequency: one false alarm in a million.
        tolerance = 5 * np.sqrt(probability * (1 - probability) / draws)
        assert abs(seen.count(name) / draws - probability) <= tolerance


def test_noise_has_exactly_the_norm_of_every_move():
    data = build(test_size=128)
    deformed, noisy = data.perturb(jax.random.key(1), 3)
    assert deformed.shape == noisy.shape == (3, 128, 6, 6, 1)
    clean = np.asarray(data.test.images, np.float64)
    moves = np.linalg.norm((np.asarray(deformed, np.float64) - clean).reshape(3, 128, -1), axis=2)
    noises = np.linalg.norm((np.asarray(noisy, np.float64) - clean).reshape(3, 128, -1), axis=2)
    # float32 sums x + eta are rounded at 18: 1e-6 each, against norms of 18 or more.
    np.testing.assert_allclose(noises, moves, rtol=1e-6, atol=0)
    assert len(np.unique(noisy[:, 0].ravel())) > 100  # white, not two pixels


def test_an_image_that_does_not_change_gets_no_noise():
    data = build(size=4, scale=2, gap=0, train_size=2, test_size=72)
    deformed, noisy = (np.asarray(x) for x in data.perturb(jax.random.key(0), 16))
    still = (deformed == np.asarray(data.test.images)).all((2, 3, 4))
    assert still.any()
    np.testing.assert_array_equal(noisy[still], deformed[still])
    assert np.isfinite(noisy).all()
    assert (noisy[~still] != deformed[~still]).any((1, 2, 3)).all()


def test_chunks_of_perturbations_are_parts_of_the_whole():
    data, key = build(), jax.random.key(2)
    whole = data.perturb(key, 2)
    index = np.array([5, 6, 40])
    for all_of_them, some in zip(whole, data.perturb_some(key, 2, index), strict=True):
        # Norms are summed in another order: float32.
        np.testing.assert_allclose(some, all_of_them[:, index], rtol=1e-5, atol=1e-5)
    other = data.perturb(jax.random.key(3), 2)
    assert all(bool((a != b).any()) for a, b in zip(whole, other, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_size": 31}, "train_size must be even and positive, got 31"),
        ({"test_size": 0}, "test_size must be even and positive, got 0"),
        ({"test_size": 600}, r"class \+1; there are \d+.*can be at most \d+"),
        ({"scale": 9}, r"no image has label -1.*euclidean distances run from 1 to 7.071"),
        ({"scale": 1, "gap": 0}, r"no image has label \+1"),
        ({"distance": "euclid"}, r"data.distance is 'euclid'; expected one of"),
        ({"gap": -1}, "gap >= 0"),
        ({"size": 1}, "size >= 2"),
        ({"name": "scale2D"}, "did you mean 'scale2d'"),
        (
            {"name": "imagenet"},
            r"expected one of \['arrays', 'cifar10', 'scale1d', 'scale2d', 'tfds'\]",
        ),
    ],
)
def test_impossible_parameters_are_refused_with_the_reason(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)
