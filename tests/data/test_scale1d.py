"""Scale detection on the ring, against its oracle and by laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.data import scale1d
from tests.oracles import scale1d as oracle

PAPER = {"length": 32, "scale": 11, "gap": 4, "task": "distance", "boundary": "wrap"}
SECTORS = {"length": 16, "scale": 4, "gap": 0, "task": "sector", "boundary": "wrap"}


def task(**changes):
    return scale1d.enumerate_task(**{**PAPER, **changes})


def test_paper_task_has_256_positive_and_112_negative_images():
    labels = task().labels
    assert ((labels == 1).sum(), (labels == -1).sum(), labels.size) == (256, 112, 368)


@pytest.mark.parametrize(
    "changes",
    [{}, {"length": 20, "scale": 5, "gap": 1}, {"length": 21, "scale": 6, "gap": 2}, SECTORS],
)
def test_images_and_labels_agree_with_the_oracle(changes):
    data = task(**changes)
    images, labels = oracle.images_and_labels(
        data.length, data.scale, {**PAPER, **changes}["gap"], data.task
    )
    np.testing.assert_array_equal(data.labels, labels)
    # sqrt(L/2) in float32 is the only rounding.
    np.testing.assert_allclose(data.images[..., 0], images, rtol=1e-6)


def test_every_image_has_squared_norm_l():
    np.testing.assert_allclose((task().images ** 2).sum((1, 2)), 32, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "moves"),
    [
        ({}, lambda i, j: oracle.moved_images(i, j, 32, "wrap")),
        ({"boundary": "clip"}, lambda i, j: oracle.moved_images(i, j, 32, "clip")),
        (SECTORS, lambda i, j: oracle.moved_images_sector(i, j, 16, 4)),
    ],
)
def test_moves_follow_the_exact_distribution(changes, moves):
    data = task(**changes)
    draws = 400
    keys = jax.random.split(jax.random.key(0), draws)
    for index in (0, 5, len(data.pairs) - 1):
        pair = jnp.asarray(data.pairs[index])
        moved = scale1d.render(jax.vmap(data.move, (0, None))(keys, pair), length=data.length)
        expected: dict[bytes, float] = {}
        for probability, image in moves(*data.pairs[index]):
            name = np.flatnonzero(image).tobytes()
            expected[name] = expected.get(name, 0.0) + probability
        seen = [np.flatnonzero(image).tobytes() for image in np.asarray(moved[..., 0])]
        assert set(seen) == set(expected)
        for name, probability in expected.items():
            # Five standard deviations of a binomial frequency: one false alarm in a million.
            tolerance = 5 * np.sqrt(probability * (1 - probability) / draws)
            assert abs(seen.count(name) / draws - probability) <= tolerance


def test_every_move_lists_the_four_equally_likely_moves():
    data = task()
    moved = np.asarray(data.every_move()[..., 0])
    for index in (0, 17, 300):
        expected = sorted(
            tuple(image) for _, image in oracle.moved_images(*data.pairs[index], 32, "wrap")
        )
        np.testing.assert_allclose(sorted(map(tuple, moved[:, index])), expected, rtol=1e-6)


def test_perturbations_have_the_noise_level_of_the_moves():
    data = task()
    deformed, noisy = data.perturb(jax.random.key(1), 16)
    assert deformed.shape == noisy.shape == (16, 368, 32, 1)
    images = np.asarray(data.images, np.float64)
    noise = np.asarray(noisy, np.float64) - images
    assert noise.min() > -1e-5  # rectified, up to the rounding of a sum with 4
    power = ((np.asarray(deformed, np.float64) - images) ** 2).mean()
    # The second moment of ReLU(N(0, s^2)) is s^2/2, of its square 3 s^4/2: five standard errors.
    tolerance = 5 * np.sqrt((1.5 - 0.25) / noise.size) * power
    assert abs((noise**2).mean() - power / 2) < tolerance


def test_perturbations_depend_on_the_key_only():
    data = task()
    first, again = (data.perturb(jax.random.key(3), 2) for _ in range(2))
    other = data.perturb(jax.random.key(4), 2)
    assert all(bool((a == b).all()) for a, b in zip(first, again, strict=True))
    assert all(bool((a != b).any()) for a, b in zip(first, other, strict=True))


def test_balanced_split_is_balanced_disjoint_and_complete():
    labels = task().labels
    train, validation = scale1d.balanced_split(jax.random.key(0), labels, 48)
    assert labels[train].sum() == 0
    assert len(train) == 48
    assert sorted([*train, *validation]) == list(range(368))
    other, _ = scale1d.balanced_split(jax.random.key(1), labels, 48)
    assert not np.array_equal(train, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 40}, r"no image has label -1.*distances on the ring run from 1 to 16"),
        ({"scale": 2, "gap": 2}, r"no image has label \+1"),
        ({"gap": -1}, "gap >= 0"),
        ({"length": 2}, "length >= 4"),
        (
            {"task": "distnace"},
            r"data.task is 'distnace'; expected one of \['distance', 'sector'\]",
        ),
        ({"boundary": "reflect"}, "data.boundary"),
        ({"task": "sector", "scale": 5, "gap": 0}, "divides the length; got length 32, scale 5"),
        ({"task": "sector", "scale": 8}, "expected gap 0, got 4"),
    ],
)
def test_impossible_tasks_are_refused_with_the_reason(changes, message):
    with pytest.raises(ValueError, match=message):
        task(**changes)


@pytest.mark.parametrize(("size", "message"), [(47, "even"), (0, "even"), (224, "at most 222")])
def test_impossible_training_sets_are_refused(size, message):
    with pytest.raises(ValueError, match=message):
        scale1d.balanced_split(jax.random.key(0), task().labels, size)
