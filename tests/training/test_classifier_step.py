"""The training step of classifiers: order, randomness, evaluation, precision, mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnpool.data.images import Split, with_image_noise
from cnnpool.devices import runtime
from cnnpool.training import classifier_setup, classifier_step
from cnnpool.training.classifier_step import (
    Recipe,
    TrainState,
    Variables,
    network_keys,
)
from cnnpool.training.groups import NO_STEP
from cnnpool.training.losses import LOSSES
from tests import tiny_images

LEFT_OVER = 2


def as_float(key, images):
    return images.astype(jnp.result_type(float))


def recipe(model=None, *, loss="cross_entropy", augment=as_float, normalize=as_float, batch_size=4):
    """A recipe that only evaluates, or whose step a subclass defines."""
    dtype = jnp.result_type(float)
    return Recipe(model, augment, normalize, LOSSES[loss], optax.identity(), batch_size, dtype)


class Recording(Recipe):
    """Its steps write down which images, view and dropout they were given."""

    def step(self, state, images, labels, dropout):
        row, log = state.current
        numbers = [labels, images[:, 0, 0, 0], jnp.full(labels.shape, jax.random.uniform(dropout))]
        log = log.at[row].set(jnp.stack([n.astype(jnp.float32) for n in numbers]))
        return state._replace(current=(row + 1, log)), jnp.zeros(()), jnp.zeros(())


def record(seed, calls, *, count=10, batch_size=4):
    """What steps see over calls (epoch, start, stop): label, view and dropout, by step."""

    def view(key, images):
        return images + jax.random.uniform(key, images.shape)

    fields = {f.name: getattr(recipe(), f.name) for f in dataclasses.fields(Recipe)}
    recording = Recording(**fields | {"augment": view, "batch_size": batch_size})
    train = Split(jnp.zeros((count, 1, 1, 1)), jnp.arange(count))
    keys = network_keys(seed)
    rows = sum(stop - start for _, start, stop in calls)
    first = (jnp.asarray(0), jnp.zeros((rows, 3, batch_size)))
    state = TrainState(first, None, None, jnp.asarray(0.0))
    steps = jax.jit(recording.steps)
    for call in calls:
        state, _ = steps(state, keys, train, *map(jnp.asarray, call))
    return np.asarray(state.current[1])


def test_every_image_is_used_once_an_epoch_but_what_the_last_batch_leaves_over():
    seen = record(0, [(epoch, 0, 2) for epoch in range(8)])[:, 0].reshape(8, 8).astype(int)
    for epoch in seen:
        assert len(set(epoch)) == 10 - LEFT_OVER
    left_over = {frozenset(range(10)) - set(epoch.tolist()) for epoch in seen}
    # Eight draws among 45 pairs of images: five are different but for one seed in 10,000.
    assert len(left_over) >= 5
    assert len({tuple(epoch) for epoch in seen}) == 8


def test_an_epoch_without_a_rest_uses_every_image():
    for epoch in record(3, [(0, 0, 4), (1, 0, 4)], count=12, batch_size=3)[:, 0].reshape(2, 12):
        assert sorted(epoch) == list(range(12))


def test_order_views_and_dropout_depend_on_seed_and_step_alone():
    whole = record(0, [(0, 0, 2), (1, 0, 2)])
    np.testing.assert_array_equal(record(0, [(0, 0, 1), (0, 1, 2), (1, 0, 1), (1, 1, 2)]), whole)
    np.testing.assert_array_equal(record(0, [(1, 1, 2)])[0], whole[3])
    other = record(1, [(0, 0, 2), (1, 0, 2)])
    assert (other[:, 0] != whole[:, 0]).any()
    for kind in (1, 2):  # view, dropout
        numbers = np.concatenate([whole[:, kind, 0], other[:, kind, 0]])
        assert len(set(numbers)) == len(numbers)


def test_the_five_kinds_of_randomness_are_independent():
    keys = [jax.random.key_data(k) for seed in (0, 1) for k in network_keys(seed)]
    assert len({tuple(np.asarray(k)) for k in keys}) == 10


def flat_case(loss, outputs, *, count=13, seed=0):
    """A linear network, test images, and outputs as numpy computes them."""
    random = np.random.default_rng(seed)
    images = random.normal(size=(count, 2, 3, 1))
    classes = random.integers(0, max(outputs, 2), count)
    labels = classes if loss == "cross_entropy" else 2 * classes - 1
    kernel, bias = random.normal(size=(6, outputs)), random.normal(size=outputs)
    order = images.transpose(0, 3, 1, 2).reshape(count, -1)
    variables = Variables({"linear01": {"kernel": jnp.asarray(kernel), "bias": bias}}, {})
    split = Split(jnp.asarray(images), jnp.asarray(labels, jnp.int32))
    return jax.tree.map(jnp.asarray, variables), split, order @ kernel + bias, labels


@pytest.mark.parametrize("chunk", [1, 5, 13, 500])
def test_evaluation_in_chunks_is_numpys(chunk, x64):
    for loss, outputs in (("cross_entropy", 3), ("hinge", 1)):
        variables, split, f, labels = flat_case(loss, outputs)
        if loss == "hinge":
            losses = np.maximum(0, 1 - labels * f[:, 0])
            wrong = labels * f[:, 0] <= 0
        else:
            losses = np.log(np.exp(f).sum(-1)) - f[np.arange(len(f)), labels]
            wrong = f.argmax(-1) != labels
        made = recipe(tiny_images.Flat(outputs), loss=loss)
        found = made.evaluate(
            variables, jax.random.key(0), classifier_step.TestSet.of(split, chunk=chunk)
        )
        np.testing.assert_allclose(found.loss, losses.mean(), rtol=1e-12)
        np.testing.assert_allclose(found.error, wrong.mean(), rtol=1e-12)
        assert 0 < wrong.mean() < 1
        assert not found.dead


def one_pixel(kernel, bias, mark=0.0):
    """f(x) = kernel x + bias of images of one pixel; `mark` stands for batch statistics."""
    layer = {"kernel": jnp.full((1, 1), kernel), "bias": jnp.full(1, bias)}
    return Variables({"linear01": layer}, {"mark": jnp.asarray(mark)})


def test_the_first_best_network_is_kept_with_its_statistics():
    made = recipe(tiny_images.Flat(1), loss="hinge")
    split = Split(jnp.arange(1.0, 5.0).reshape(4, 1, 1, 1), jnp.array([-1, -1, 1, 1]))
    test, keys = classifier_step.TestSet.of(split, chunk=3), network_keys(0)
    nothing = one_pixel(0.0, 0.0)
    state = TrainState(nothing, None, nothing, jnp.asarray(jnp.inf))
    finish = jax.jit(made.finish_epoch)
    found, kept = [], []
    for epoch, threshold in enumerate([0.0, 1.5, 3.5, 4.5, 2.5, 2.4]):
        state = state._replace(current=one_pixel(1.0, -threshold, mark=float(epoch)))
        state, evaluation = finish(state, keys, test, jnp.asarray(epoch))
        found.append(float(evaluation.error))
        kept.append(float(state.best.batch_stats["mark"]))
        bias = float(state.best.params["linear01"]["bias"][0])
        assert bias == -np.float32([0.0, 1.5, 3.5, 4.5, 2.5, 2.4][int(kept[-1])])
        assert float(state.best_error) == min(found)
        assert float(state.current.batch_stats["mark"]) == epoch
    assert found == [0.5, 0.25, 0.25, 0.5, 0.0, 0.0]
    assert kept == [0, 1, 1, 1, 4, 4]


@pytest.mark.parametrize("chunk", [2, 3, 7])
def test_a_dead_network_says_the_same_of_all_images(chunk):
    evaluate = jax.jit(recipe(tiny_images.Flat(1), loss="hinge").evaluate)
    labels = jnp.array([1, -1, 1, -1, 1, -1, 1])
    different = Split(jnp.arange(7.0).reshape(7, 1, 1, 1), labels)
    same = Split(jnp.ones((7, 1, 1, 1)), labels)
    last = Split(same.images.at[-1].set(2.0), labels)
    cases = [
        (different, 0.0, True),
        (different, 1.0, False),
        (last, 1.0, False),
        # The chunks are filled up with other images, which do not count.
        (same, 1.0, True),
    ]
    for split, kernel, dead in cases:
        test = classifier_step.TestSet.of(split, chunk=chunk)
        assert bool(evaluate(one_pixel(kernel, 0.5), jax.random.key(0), test).dead) == dead


def test_a_dead_network_of_classes_is_one_whose_every_output_is_constant():
    made = recipe(tiny_images.Flat(2))
    split = Split(jnp.arange(4.0).reshape(4, 1, 1, 1), jnp.array([0, 1, 0, 1]))
    test = classifier_step.TestSet.of(split, chunk=3)
    for kernel, dead in (([0.0, 0.0], True), ([0.0, 1.0], False)):
        layer = {"kernel": jnp.array([kernel]), "bias": jnp.array([1.0, 2.0])}
        found = made.evaluate(Variables({"linear01": layer}, {}), jax.random.key(0), test)
        assert bool(found.dead) == dead


def test_image_noise_is_another_for_every_key_epoch_and_chunk():
    def noisy(key, images):
        return with_image_noise(key, images, 1.0)

    split = Split(jnp.zeros((6, 1, 1, 1)), jnp.ones(6, jnp.int32))
    test, state = classifier_step.TestSet.of(split, chunk=3), one_pixel(1.0, 0.0)
    made, clean = (
        recipe(tiny_images.Flat(1), loss="hinge", normalize=view) for view in (noisy, as_float)
    )

    def loss(finish, seed, epoch, test):
        whole = TrainState(state, None, state, jnp.asarray(jnp.inf))
        return float(finish(whole, network_keys(seed), test, jnp.asarray(epoch))[1].loss)

    made, clean = jax.jit(made.finish_epoch), jax.jit(clean.finish_epoch)
    assert loss(made, 0, 0, test) == loss(made, 0, 0, test)
    first_chunk = test._replace(weights=test.weights.at[1].set(0))
    second_chunk = test._replace(weights=test.weights.at[0].set(0))
    found = {loss(made, s, e, test) for s in (0, 1) for e in (0, 1)}
    found |= {loss(made, 0, 0, first_chunk), loss(made, 0, 0, second_chunk)}
    assert len(found) == 6
    assert {loss(clean, s, e, test) for s in (0, 1) for e in (0, 1)} == {1.0}


@pytest.fixture(scope="module")
def tiny():
    """Two networks on one device with crops, dropout and batch normalization, compiled."""
    with pytest.MonkeyPatch.context() as patch:
        tiny_images.install(patch)
        fields = {"runtime__seeds_per_batch": 2, "runtime__mesh__seed": 1}
        training = classifier_setup.setup(tiny_images.config(**fields))
    steps = training.compile(training.recipe.steps, stacked=2, shared=4)
    return training, steps, training.initial_state().networks


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_steps_in_two_calls_are_those_of_one(tiny):
    training, steps, first = tiny
    whole, sums = steps(first, training.keys, training.train, 1, 0, 4)
    half, part = steps(first, training.keys, training.train, 1, 0, 2)
    both, rest = steps(half, training.keys, training.train, 1, 2, 4)
    assert_same(both, whole)
    # Four terms of about one: each sum rounds by 6e-8 of it at most.
    np.testing.assert_allclose(part.loss + rest.loss, sums.loss, rtol=1e-6)
    np.testing.assert_allclose(part.error + rest.error, sums.error, rtol=1e-6)
    moved = jax.tree.map(lambda a, b: (a != b).any(), first.current, whole.current)
    assert all(jax.tree.leaves(moved))
    assert_same((whole.best, whole.best_error), (first.best, first.best_error))
    assert sums.first_bad_step.tolist() == [NO_STEP, NO_STEP]


def test_networks_of_a_batch_differ_and_do_not_see_each_other(tiny):
    training, steps, first = tiny
    swap = (jax.tree.map(lambda a: a[::-1], t) for t in (first, training.keys))
    kernel = first.current.params["conv01"]["kernel"]
    assert (kernel[0] != kernel[1]).all()
    state, _ = steps(first, training.keys, training.train, 0, 0, 2)
    swapped, _ = steps(*swap, training.train, 0, 0, 2)
    assert_same(jax.tree.map(lambda a: a[::-1], swapped), state)


def test_the_first_bad_step_of_each_network(tiny):
    training, steps, first = tiny
    rows = first.current.params["linear02"]["bias"]
    params = first.current.params | {
        "linear02": first.current.params["linear02"] | {"bias": rows.at[1].set(jnp.nan)}
    }
    bad = first._replace(current=first.current._replace(params=params))
    _, metrics = steps(bad, training.keys, training.train, 0, 2, 4)
    assert metrics.first_bad_step.tolist() == [NO_STEP, 2]
    np.testing.assert_array_equal(metrics.error[1], 2)


def test_no_program_compiles_again_in_the_second_epoch(tiny):
    training, steps, state = tiny
    finish = training.compile(training.recipe.finish_epoch, stacked=2, shared=2)
    compiled = []
    for epoch in range(2):
        state, _ = steps(state, training.keys, training.train, epoch, 0, 1)
        state, _ = finish(state, training.keys, training.test, epoch)
        compiled.append((steps._cache_size(), finish._cache_size()))
    assert compiled[0] == compiled[1]


def test_bfloat16_computes_coarsely_and_keeps_float32(tiny):
    training, steps, first = tiny
    coarse = dataclasses.replace(training.recipe, compute_dtype=jnp.bfloat16)
    coarse_steps = training.compile(coarse.steps, stacked=2, shared=4)
    state, metrics = coarse_steps(first, training.keys, training.train, 0, 0, 1)
    expected, reference = steps(first, training.keys, training.train, 0, 0, 1)
    types = [jax.tree.map(lambda a: a.dtype, t) for t in ((state, metrics), (expected, reference))]
    assert types[0] == types[1]
    assert {a.dtype.name for a in jax.tree.leaves(state.current)} == {"float32"}
    # A rounding is 2^-9; some ten in a row reach 2 %. Zero difference: it was not computed so.
    np.testing.assert_allclose(metrics.loss, reference.loss, rtol=0.02)
    assert (metrics.loss != reference.loss).all()
    for name in ("params", "batch_stats"):
        moves = []
        for one in (state, expected):
            tree = getattr(one.current, name), getattr(first.current, name)
            moves.append(
                np.concatenate(
                    [np.ravel(d) for d in jax.tree.leaves(jax.tree.map(jnp.subtract, *tree))]
                )
            )
        assert np.isfinite(moves[0]).all()
        difference = np.linalg.norm(moves[0] - moves[1]) / np.linalg.norm(moves[1])
        assert 1e-5 < difference < 0.05


def on_mesh(first, dtype, *, seed, data, seeds_per_batch):
    """Networks after two epochs of one step each, on a batch of all images, on a mesh."""
    config = tiny_images.config(
        seeds=tuple(range(len(first.best_error))),
        training__batch_size=tiny_images.TRAIN,
        runtime__seeds_per_batch=seeds_per_batch,
        runtime__mesh__seed=seed,
        runtime__mesh__data=data,
    )
    with pytest.MonkeyPatch.context() as patch:
        # Flips alone leave the mean and variance of a batch's images as they are.
        tiny_images.install(patch, padding=0)
        training = classifier_setup.setup(config)
    assert training.mesh.devices.shape == (seed, data)
    made = dataclasses.replace(training.recipe, compute_dtype=dtype)
    state = jax.tree.map(
        lambda a: np.asarray(a, dtype if jnp.issubdtype(a.dtype, jnp.floating) else a.dtype), first
    )
    state = jax.device_put(state, runtime.over_seeds(training.mesh))
    steps = training.compile(made.steps, stacked=2, shared=4)
    finish = training.compile(made.finish_epoch, stacked=2, shared=2)
    for epoch in range(2):
        state, metrics = steps(state, training.keys, training.train, epoch, 0, 1)
    state, evaluation = finish(state, training.keys, training.test, 1)
    return jax.device_get((state, metrics, evaluation))


def assert_close(a, b, *, relative):
    """Every tensor within a part of its largest entry."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if np.isfinite(y).all():
            np.testing.assert_allclose(x, y, rtol=0, atol=relative * np.abs(y * 1.0).max())
        else:
            np.testing.assert_array_equal(x, y)


@pytest.fixture(scope="module")
def first(tiny):
    return jax.device_get(tiny[2])


@pytest.fixture(scope="module")
def one_device(first):
    """Two networks vectorized on one device, in float64."""
    with jax.enable_x64(True):
        return on_mesh(first, jnp.float64, seed=1, data=1, seeds_per_batch=2)


@pytest.fixture(scope="module")
def eight_devices(first):
    """Each network on four devices, in float64."""
    with jax.enable_x64(True):
        return on_mesh(first, jnp.float64, seed=2, data=4, seeds_per_batch=1)


def test_eight_devices_give_the_result_of_one(one_device, eight_devices):
    # Statistics of a shard of 16 images instead of 64 would be off by percents.
    assert_close(eight_devices, one_device, relative=1e-10)


@pytest.mark.parametrize(("seed", "data"), [(1, 8), (8, 1)])
def test_any_mesh_gives_the_result_of_one_device(seed, data, first, one_device, x64):
    """With eight networks, four copies of two, but each with randomness of its own."""
    repeat = 4 if seed == 8 else 1
    several = jax.tree.map(lambda a: np.concatenate([a] * repeat), first)
    found = on_mesh(several, jnp.float64, seed=seed, data=data, seeds_per_batch=2)
    assert_close(jax.tree.map(lambda a: a[:2], found), one_device, relative=1e-10)


def test_networks_one_after_another_give_the_result_of_a_batch(first, one_device, x64):
    found = on_mesh(first, jnp.float64, seed=1, data=1, seeds_per_batch=1)
    assert_close(found, one_device, relative=1e-10)


def test_eight_devices_in_float32_within_rounding(first):
    one, eight = (
        on_mesh(first, jnp.float32, seed=seed, data=data, seeds_per_batch=2)
        for seed, data in ((1, 1), (2, 4))
    )
    # A rounding is 6e-8. The gradient of the first norm's shift is a tenth of its terms, which
    # cancel in the second norm; a hundred roundings of it are left.
    assert_close(eight, one, relative=1e-5)


def test_statistics_of_a_sharded_batch_are_those_of_the_whole(eight_devices):
    state, _, _ = eight_devices
    images = np.asarray(tiny_images.data().train.images) / 255
    # Images are normalized in float32.
    values = ((images - tiny_images.MEAN) / tiny_images.STD).reshape(-1, 3)
    found = state.current.batch_stats["bn00"]
    for seed in (0, 1):
        mean, var = 0.19 * values.mean(0), 0.81 + 0.19 * values.var(0, ddof=1)
        np.testing.assert_allclose(found["mean"][seed], mean, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found["var"][seed], var, rtol=1e-6)
