"""Diffusion theory against its oracle, and a real network of constant filters against both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.data import scale1d
from cnnpool.figures.power_law import log_log_slope
from cnnpool.instruments import diffusion
from cnnpool.instruments.moments import image_moments
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.models.simple_cnn import SimpleCNN
from tests.oracles import diffusion as oracle
from tests.oracles import receptive_field as field_oracle
from tests.oracles import scale1d as scale_oracle

STRIDE1 = {"length": 32, "scale": 11, "gap": 4, "task": "distance", "boundary": "wrap"}
STRIDED = {"length": 32, "scale": 8, "gap": 0, "task": "sector", "boundary": "wrap"}


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5])
def test_step_matrices_agree_with_the_oracle(filter_size):
    for ours, theirs in (
        (diffusion.step_matrix(20, filter_size), oracle.network_step(20, filter_size)),
        (diffusion.paper_step_matrix(20, filter_size), oracle.paper_step(20, filter_size)),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-15)


def test_a_filter_of_two_with_stride_two_averages_blocks():
    np.testing.assert_allclose(
        diffusion.step_matrix(20, 2, 2), oracle.block_step(20, 2), atol=1e-15
    )


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5])
def test_lattice_drift_and_variance_are_those_of_the_matrices(filter_size):
    length, layers = 101, 3
    response = diffusion.layer_matrices(length, depth=layers, filter_size=filter_size, stride=1)[
        -1
    ][:, 50]
    a = np.arange(length) - 50
    drift = (response * a).sum()
    assert drift == pytest.approx(layers * diffusion.lattice_drift(filter_size), abs=1e-12)
    variance = (response * a**2).sum() - drift**2
    assert variance == pytest.approx(layers * diffusion.lattice_variance(filter_size), rel=1e-12)
    assert np.sqrt(variance) == pytest.approx(diffusion.receptive_field_size(layers, filter_size))


def test_constants_as_printed_and_how_far_they_are_off():
    assert diffusion.paper_diffusion_coefficient(3) == pytest.approx(8 / 36)
    assert diffusion.paper_diffusion_coefficient(4) == pytest.approx((64 - 48 + 24 - 4) / 48)
    assert diffusion.paper_drift(3) == 0
    assert diffusion.paper_drift(4) == pytest.approx(-3 / 8)
    # The printed variance a layer is 2 D: a third too small for F = 3, a third too large for F = 2.
    assert 2 * diffusion.paper_diffusion_coefficient(3) / diffusion.lattice_variance(
        3
    ) == pytest.approx(2 / 3)
    assert 2 * diffusion.paper_diffusion_coefficient(2) / diffusion.lattice_variance(
        2
    ) == pytest.approx(4 / 3)


@pytest.mark.parametrize("filter_size", [3, 4, 5])
def test_the_printed_gaussian_agrees_with_the_oracle(filter_size):
    np.testing.assert_allclose(
        diffusion.paper_gaussian(64, filter_size, 6),
        oracle.proposition_gaussian(64, filter_size, 6, 0),
        rtol=1e-12,
    )


def test_a_gaussian_of_the_exact_variance_fits_the_ring_and_the_printed_one_does_not():
    exact = diffusion.layer_matrices(64, depth=12, filter_size=3, stride=1)[-1][:, 0]
    a, variance = diffusion.ring_positions(64), 12 * diffusion.lattice_variance(3)
    gaussian = np.exp(-(a**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    # The fourth cumulant, of order 1/k, is what is left: 1.6 % at k = 12.
    assert np.abs(gaussian - exact).max() < 0.02 * exact.max()
    assert np.abs(diffusion.paper_gaussian(64, 3, 12) - exact).max() > 0.1 * exact.max()


@pytest.mark.parametrize(("length", "size"), [(8, 8), (7, 7)])
def test_ring_positions_are_signed_distances(length, size):
    found = diffusion.ring_positions(length)
    assert found[0] == 0
    assert found[1] == 1
    assert found[-1] == -1
    assert -size / 2 <= found.min() < found.max() < size / 2 + 1e-9


@pytest.mark.parametrize("layer", [1, 3])
def test_strided_receptive_field_is_a_uniform_window(layer):
    window = np.arange(2**layer)
    assert diffusion.receptive_field_size(layer, 2, 2) == pytest.approx(window.std())


def matrices_of(task, filter_size, stride, depth):
    return diffusion.layer_matrices(
        task["length"], depth=depth, filter_size=filter_size, stride=stride
    )


@pytest.mark.parametrize(
    ("task", "filter_size", "stride", "depth", "step", "moves"),
    [
        (
            STRIDE1,
            3,
            1,
            12,
            oracle.network_step,
            lambda i, j: scale_oracle.moved_images(i, j, 32, "wrap"),
        ),
        (
            STRIDE1,
            4,
            1,
            3,
            oracle.network_step,
            lambda i, j: scale_oracle.moved_images(i, j, 32, "wrap"),
        ),
        (
            STRIDED,
            2,
            2,
            4,
            oracle.block_step,
            lambda i, j: scale_oracle.moved_images_sector(i, j, 32, 8),
        ),
    ],
)
def test_predictions_agree_with_the_oracle(task, filter_size, stride, depth, step, moves):
    data = scale1d.enumerate_task(**task)
    found = diffusion.predicted_sensitivities(
        matrices_of(task, filter_size, stride, depth),
        np.asarray(data.images[..., 0]),
        np.asarray(data.every_move()[..., 0]),
    )
    images, _ = scale_oracle.images_and_labels(
        task["length"], task["scale"], task["gap"], task["task"]
    )
    steps = [step(task["length"] // stride**k, filter_size) for k in range(depth)]
    D, G = oracle.exact_sensitivities(steps, images, [moves(i, j) for i, j in data.pairs])
    # Images hold sqrt(L/2) rounded to float32.
    np.testing.assert_allclose(found.D, D, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.G, G, rtol=1e-6)


def test_slopes_of_the_finite_ring_are_the_protocols():
    data = scale1d.enumerate_task(**STRIDE1)
    found = diffusion.predicted_sensitivities(
        matrices_of(STRIDE1, 3, 1, 12),
        np.asarray(data.images[..., 0]),
        np.asarray(data.every_move()[..., 0]),
    )
    sizes = np.array([diffusion.receptive_field_size(k, 3) for k in range(1, 13)])
    for first, last, d_slope, g_slope in ((2, 9, -1.69, 0.85), (4, 12, -1.63, 0.97)):
        part = slice(first - 1, last)
        assert log_log_slope(sizes[part], found.D[part]) == pytest.approx(d_slope, abs=0.005)
        assert log_log_slope(sizes[part], found.G[part]) == pytest.approx(g_slope, abs=0.005)


def constant_network(width, depth, filter_size, stride, length):
    """A network whose every filter is the same positive constant, without bias."""
    model = SimpleCNN(width, depth, filter_size, stride)
    params = model.init(jax.random.key(0), jnp.zeros((1, length, 1)))
    constant = jax.tree.map(
        lambda leaf: jnp.full_like(leaf, 0.3 if leaf.ndim == 3 else 0.0), params
    )
    return lambda x: model.apply(constant, x)[1]


@pytest.mark.parametrize(
    ("task", "filter_size", "stride", "depth"), [(STRIDE1, 3, 1, 12), (STRIDED, 2, 2, 4)]
)
def test_a_network_of_constant_filters_measures_what_theory_predicts(
    task, filter_size, stride, depth
):
    data = scale1d.enumerate_task(**task)
    features = constant_network(4, depth, filter_size, stride, task["length"])
    moves = data.every_move()
    _, noisy = data.perturb(jax.random.key(0), 64)
    exact = image_moments(features, data.images, moves, noisy[:1], batch_size=50)
    sampled = image_moments(features, data.images, noisy, noisy, batch_size=50)
    with pytest.warns(UserWarning, match="dead layers: pool, linear;"):  # all masses are equal
        D, G = sensitivities(exact), sensitivities(sampled)
    found = diffusion.predicted_sensitivities(
        matrices_of(task, filter_size, stride, depth),
        np.asarray(data.images[..., 0]),
        np.asarray(moves[..., 0]),
    )
    for k in range(1, depth + 1):
        # All moves are enumerated, so D is exact up to float32.
        assert pytest.approx(found.D[k - 1], rel=1e-5, abs=1e-9) == D[f"relu{k:02d}"].D
        # G averages 64 noises of each image; sigma is measured on as many moves.
        assert pytest.approx(found.G[k - 1], rel=0.03) == G[f"relu{k:02d}"].G


@pytest.mark.parametrize(("filter_size", "stride"), [(3, 1), (5, 1), (2, 2), (4, 1)])
def test_measured_size_of_constant_filters_is_the_predicted_one(filter_size, stride):
    length, depth = 64, 3
    features = constant_network(4, depth, filter_size, stride, length)
    responses = features(jnp.eye(length)[..., None])
    background = features(jnp.zeros((1, length, 1)))
    for k in range(1, depth + 1):
        name = f"relu{k:02d}"
        found = diffusion.measured_size(
            np.asarray(responses[name]),
            np.asarray(background[name][0]),
            filter_size=filter_size,
            stride=stride,
            layer=k,
        )
        expected = diffusion.receptive_field_size(k, filter_size, stride)
        assert found == pytest.approx(expected, rel=1e-5)


def test_measured_size_agrees_with_the_oracle_on_a_random_network():
    length = 32
    model = SimpleCNN(8, 4, 3, 1)
    params = model.init(jax.random.key(0), jnp.zeros((1, length, 1)))
    responses = model.apply(params, 4 * jnp.eye(length)[..., None])[1]
    background = model.apply(params, jnp.zeros((1, length, 1)))[1]
    for k in range(1, 5):
        name = f"relu{k:02d}"
        response, rest = np.asarray(responses[name]), np.asarray(background[name][0])
        found = diffusion.measured_size(response, rest, filter_size=3, stride=1, layer=k)
        # Averaged over all pixels here, pixel 0 in the oracle: the same by translation.
        assert found == pytest.approx(field_oracle.measured_size(response[0], rest), rel=1e-5)


def test_nothing_responds():
    silent = np.zeros((4, 4, 2))
    assert np.isnan(diffusion.measured_size(silent, silent[0], filter_size=3, stride=1, layer=1))


@pytest.mark.parametrize("arguments", [(8, 9), (8, 0), (9, 3, 2)])
def test_impossible_filters_are_refused(arguments):
    with pytest.raises(ValueError, match="filter size <= length"):
        diffusion.step_matrix(*arguments)
