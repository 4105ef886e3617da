"""Self checks of the oracles, on tiny cases and against the numbers the protocol prints."""

import numpy as np
import pytest

from tests.oracles import diffusion, receptive_field, scale1d, sensitivity, simple_cnn


def ring_data(boundary: str = "wrap") -> tuple[np.ndarray, diffusion.Moves]:
    """The 368 images of the 1-D task and the exact distribution of their deformations."""
    pairs = scale1d.labelled_pairs(32, 11, 4, "distance")
    images, _ = scale1d.images_and_labels(32, 11, 4, "distance")
    return images, [scale1d.moved_images(i, j, 32, boundary) for i, j, _ in pairs]


def test_distance_task_counts() -> None:
    images, labels = scale1d.images_and_labels(32, 11, 4, "distance")
    assert len(scale1d.all_pairs(32)) == 496
    assert images.shape == (368, 32)
    assert np.sum(labels == 1) == 256
    assert np.sum(labels == -1) == 112
    assert np.allclose(np.sum(images**2, axis=1), 32)
    assert np.all(np.sum(images == 4.0, axis=1) == 2)
    pairs = scale1d.labelled_pairs(32, 11, 4, "distance")
    distances = {scale1d.ring_distance(i, j, 32) for i, j, _ in pairs}
    assert sorted(distances) == [1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16]


def test_sector_task_counts() -> None:
    images, labels = scale1d.images_and_labels(128, 32, 0, "sector")
    assert images.shape == (8128, 128)
    assert np.sum(labels == 1) == 4 * 32 * 31 // 2
    assert np.sum(labels == -1) == 6 * 32 * 32


@pytest.mark.parametrize("boundary", ["wrap", "clip"])
def test_move_probabilities(boundary: str) -> None:
    for i, j in scale1d.all_pairs(8):
        outcomes = scale1d.moved_images(i, j, 8, boundary)
        assert sum(probability for probability, _ in outcomes) == 1.0
        assert all(np.isclose(x.sum(), 4.0) for _, x in outcomes)


def test_move_cases() -> None:
    wrapped = [list(np.nonzero(x)[0]) for _, x in scale1d.moved_images(0, 4, 8, "wrap")]
    assert wrapped == [[3, 7], [5, 7], [1, 3], [1, 5]]
    clipped = [list(np.nonzero(x)[0]) for _, x in scale1d.moved_images(0, 7, 8, "clip")]
    assert clipped == [[0, 6], [0, 7], [1, 6], [1, 7]]
    merged = scale1d.moved_images(2, 4, 8, "wrap")[2][1]
    assert list(np.nonzero(merged)[0]) == [3]
    assert merged[3] == 4.0
    sectors = [list(np.nonzero(x)[0]) for _, x in scale1d.moved_images_sector(3, 5, 8, 4)]
    assert sectors == [[2, 4], [2, 6], [3, 4], [3, 6]]
    for i, j in scale1d.all_pairs(8):
        outcomes = scale1d.moved_images_sector(i, j, 8, 4)
        assert sum(probability for probability, _ in outcomes) == 1.0


def test_convolution_reads_the_right_pixels() -> None:
    x = np.arange(8.0).reshape(1, 8, 1)
    for filter_size, stride, expected in [
        (3, 1, [701, 12, 123, 234, 345, 456, 567, 670]),
        (2, 1, [1, 12, 23, 34, 45, 56, 67, 70]),
        (4, 1, [7012, 123, 1234, 2345, 3456, 4567, 5670, 6701]),
        (2, 2, [1, 23, 45, 67]),
    ]:
        digits = 10.0 ** np.arange(filter_size)[::-1]
        kernel = digits.reshape(filter_size, 1, 1) * np.sqrt(filter_size)
        out = simple_cnn.convolution(x, kernel, np.zeros(1), filter_size, stride)
        assert np.allclose(out[0, :, 0], expected)


def test_forward_order_and_shapes() -> None:
    params = simple_cnn.normal_params(3, 4, 2, seed=0)
    x = np.random.default_rng(1).standard_normal((5, 8, 1))
    activations = simple_cnn.forward(params, x, 2, 2)
    shapes = {name: value.shape for name, value in activations.items()}
    assert list(shapes.items()) == [
        ("conv01", (5, 4, 4)),
        ("relu01", (5, 4, 4)),
        ("conv02", (5, 2, 4)),
        ("relu02", (5, 2, 4)),
        ("conv03", (5, 1, 4)),
        ("relu03", (5, 1, 4)),
        ("pool", (5, 4)),
        ("linear", (5, 1)),
    ]


@pytest.mark.parametrize(("filter_size", "stride"), [(3, 1), (2, 1), (4, 1), (2, 2)])
def test_gradient_against_finite_differences(filter_size: int, stride: int) -> None:
    rng = np.random.default_rng(3)
    params = simple_cnn.normal_params(3, 4, filter_size, seed=2)
    x = rng.standard_normal((6, 8, 1))
    y = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    margins = 1 - y * simple_cnn.forward(params, x, filter_size, stride)["linear"][:, 0]
    assert np.any(margins > 0)
    coordinates = [
        (layer, name, index)
        for layer, group in params.items()
        for name, value in group.items()
        for index in np.ndindex(value.shape)
    ]
    expected = simple_cnn.finite_difference(params, x, y, 0.7, filter_size, stride, coordinates)
    grads = simple_cnn.gradient(params, x, y, 0.7, filter_size, stride)
    found = np.array([grads[layer][name][index] for layer, name, index in coordinates])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_satisfied_margins_leave_only_the_ridge() -> None:
    params = simple_cnn.normal_params(2, 3, 3, seed=5)
    params["linear"]["bias"][:] = 100.0
    x = np.random.default_rng(6).standard_normal((4, 8, 1))
    grads = simple_cnn.gradient(params, x, np.ones(4), 0.01, 3, 1)
    assert np.all(grads["linear"]["kernel"] == 0)
    assert np.all(grads["conv02"]["bias"] == 0)
    np.testing.assert_allclose(
        grads["conv02"]["kernel"], 2 * 0.01 / (3 * 2) * params["conv02"]["kernel"]
    )


def test_sensitivity_on_numbers_worked_by_hand() -> None:
    clean = np.array([[0.0], [2.0]])
    deformed = np.array([[[1.0], [2.0]], [[0.0], [5.0]]])
    noisy = np.array([[[2.0], [4.0]]])
    d, g, r = sensitivity.all_pairs_sensitivity(clean, deformed, noisy)
    assert (d, g, r) == (2.5 / 2, 4 / 2, 2.5 / 4)


def test_jackknife_close_to_bootstrap() -> None:
    rng = np.random.default_rng(7)
    clean = rng.standard_normal((80, 2, 3)) * rng.uniform(0.5, 2.0, (80, 1, 1))
    deformed = clean + rng.standard_normal((3, 80, 2, 3)) * rng.uniform(0.5, 1.0, (1, 80, 1, 1))
    noisy = clean + 0.7 * rng.standard_normal((3, 80, 2, 3))
    jackknife = sensitivity.jackknife_errors(clean, deformed, noisy)
    bootstrap = sensitivity.bootstrap_errors(clean, deformed, noisy, 4000, seed=8)
    np.testing.assert_allclose(jackknife, bootstrap, rtol=0.1)


def test_measured_size() -> None:
    assert receptive_field.signed_positions(6) == [0, 1, 2, -3, -2, -1]
    response = np.zeros((8, 2))
    background = np.ones((8, 2))
    assert np.isclose(receptive_field.measured_size(response, background), np.sqrt(44 / 8))
    response[:] = background
    assert np.isnan(receptive_field.measured_size(response, background))
    response[7] += [3.0, -1.0]
    response[2] += [2.0, 0.0]
    assert np.isclose(receptive_field.measured_size(response, background), np.sqrt(6 / 3))


def test_constant_filters_diffuse() -> None:
    params = simple_cnn.normal_params(12, 4, 3, seed=0)
    for name in simple_cnn.conv_names(params):
        params[name]["kernel"][:] = 0.3
        params[name]["bias"][:] = 0.0
    assert np.allclose(receptive_field.mean_filters(params), 0.3)
    assert receptive_field.mean_filters(params).shape == (12, 3)
    x = np.zeros((2, 32, 1))
    x[1, 0, 0] = 4.0
    activations = simple_cnn.forward(params, x, 3, 1)
    matrices = diffusion.products([diffusion.network_step(32, 3)] * 12)
    for k in range(1, 13):
        background, response = activations[f"relu{k:02d}"]
        size = receptive_field.measured_size(response, background)
        assert np.isclose(size, diffusion.theory_size(k, 3), rtol=1e-12)
        column = matrices[k - 1][:, 0]
        assert np.allclose(response / response.sum(axis=0), column[:, None])


@pytest.mark.parametrize("filter_size", [2, 3, 4, 5])
def test_one_step_drift_and_variance(filter_size: int) -> None:
    delta = np.zeros(64)
    delta[20] = 1.0
    drift = 0.0 if filter_size % 2 == 1 else 0.5
    for step, sign in [(diffusion.network_step, -1.0), (diffusion.paper_step, 1.0)]:
        response = step(64, filter_size) @ delta
        mean, variance = diffusion.drift_and_variance(response, 20)
        assert np.isclose(mean, sign * drift)
        assert np.isclose(variance, (filter_size**2 - 1) / 12)


def test_block_step_is_the_strided_network() -> None:
    x = np.random.default_rng(4).standard_normal((1, 16, 1))
    kernel = np.ones((2, 1, 1)) / np.sqrt(2)
    out = simple_cnn.convolution(x, kernel, np.zeros(1), 2, 2)
    assert np.allclose(out[0, :, 0], diffusion.block_step(16, 2) @ x[0, :, 0])


def test_protocol_slopes() -> None:
    images, moved = ring_data()
    steps = [diffusion.network_step(32, 3)] * 12
    d, g = diffusion.exact_sensitivities(steps, images, moved)
    for first, last, slope_d, slope_g in [
        (2, 9, -1.6876, 0.8546),
        (1, 9, -1.7841, 0.8092),
        (4, 12, -1.6305, 0.9731),
    ]:
        assert np.isclose(diffusion.log_slope(d, 3, first, last), slope_d, atol=1e-3)
        assert np.isclose(diffusion.log_slope(g, 3, first, last), slope_g, atol=1e-3)
    _, plain = diffusion.exact_sensitivities(steps, images, moved, rectified=False)
    assert np.isclose(diffusion.log_slope(plain, 3, 1, 9), 0.123, atol=1e-3)


def test_exact_values_against_sampling() -> None:
    images, moved = ring_data()
    variance = diffusion.move_variance(images, moved)
    rng = np.random.default_rng(11)
    matrix = diffusion.products([diffusion.network_step(32, 3)] * 5)[-1]
    eta = np.maximum(0.0, rng.normal(0.0, np.sqrt(variance), (50_000, 32)))
    squares = np.sum((eta @ matrix.T) ** 2, axis=1)
    exact = diffusion.noise_numerator(matrix, variance)
    assert abs(squares.mean() - exact) < 4 * squares.std() / np.sqrt(len(squares))
    clean = images[::12] @ matrix.T
    deformed = np.array([[matrix @ outcomes[r][1] for outcomes in moved[::12]] for r in range(4)])
    d, _, _ = sensitivity.all_pairs_sensitivity(clean, deformed, deformed)
    exact_d, _ = diffusion.exact_sensitivities([matrix], images[::12], moved[::12])
    assert np.isclose(d, exact_d[0])


def test_denominator_and_input_values() -> None:
    images, moved = ring_data()
    centred = images - images.mean(axis=0)
    expected = 2 * np.mean(np.sum(centred**2, axis=1))
    assert np.isclose(diffusion.pair_denominator(np.eye(32), images), expected)
    d, g = diffusion.exact_sensitivities([np.eye(32)], images, moved)
    assert np.isclose(d[0] / g[0], 2.0)
    _, plain = diffusion.exact_sensitivities([np.eye(32)], images, moved, rectified=False)
    assert np.isclose(d[0], plain[0])
