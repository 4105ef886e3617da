"""Filter spectra against the grid's Laplacian as a matrix, and against what they must be."""

import numpy as np
import pytest

from cnnpool.instruments.filter_spectrum import laplacian_modes, random_power, spectrum
from tests.oracles import filter_spectrum as oracle

SIZES = [1, 2, 3, 5]


def random_kernel(*shape, seed=0):
    """Filters that differ in size and smoothness, so that nothing cancels by symmetry."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.3, 1, shape) * rng.uniform(0.2, 2, (1, 1, *shape[2:]))


def default_kernel(*shape, seed=0):
    """PyTorch's default initialization, and its fan-in."""
    fan_in = int(np.prod(shape[:-1]))
    return np.random.default_rng(seed).uniform(-1, 1, shape) / np.sqrt(fan_in), fan_in


@pytest.mark.parametrize("size", SIZES)
def test_modes_are_orthonormal_eigenvectors_in_ascending_order(size):
    modes, eigenvalues = laplacian_modes(size)
    rows = modes.reshape(size**2, size**2)
    matrix = oracle.laplacian(size)
    # Eigenvalues are rounded to 12 digits.
    np.testing.assert_allclose(rows @ matrix, eigenvalues[:, None] * rows, atol=2e-12)
    np.testing.assert_allclose(rows @ rows.T, np.eye(size**2), atol=1e-14)
    np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(matrix), atol=1e-12)
    assert (np.diff(eigenvalues) >= 0).all()


def test_three_by_three_is_the_protocols_with_columns_before_rows():
    modes, eigenvalues = laplacian_modes(3)
    np.testing.assert_array_equal(eigenvalues, [0, 1, 1, 2, 3, 3, 4, 4, 6])
    np.testing.assert_allclose(modes[0], np.full((3, 3), 1 / 3), rtol=1e-14)
    slope = np.array([1, 0, -1]) / np.sqrt(6)
    np.testing.assert_allclose(modes[1], np.tile(slope, (3, 1)), atol=1e-15)
    np.testing.assert_allclose(modes[2], np.tile(slope, (3, 1)).T, atol=1e-15)
    signs = np.array([1, -2, 1])
    np.testing.assert_allclose(modes[8], np.outer(signs, signs) / 6, atol=1e-15)


@pytest.mark.parametrize("size", SIZES)
def test_power_of_every_eigenspace_agrees_with_the_oracle(size):
    kernel = random_kernel(size, size, 4, 5)
    found = spectrum(kernel)
    spaces = oracle.eigenspace_power(kernel)
    power = [found.power[np.abs(found.eigenvalues - value) < 1e-6].sum() for value, _ in spaces]
    np.testing.assert_allclose(power, [gamma for _, gamma in spaces], rtol=1e-11)
    # Parseval.
    assert found.power.sum() == pytest.approx((kernel**2).sum((0, 1)).mean(), rel=1e-12)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_mean_frequency_agrees_with_the_oracle(size):
    kernel = random_kernel(size, size, 4, 5)
    expected = oracle.mean_frequency(oracle.filters(kernel), size)
    assert spectrum(kernel).mean_frequency == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("size", SIZES)
def test_constant_filters_have_the_lowest_frequency_only(size):
    found = spectrum(np.full((size, size, 3, 2), -0.7))
    assert found.power[0] == pytest.approx(size**2 * 0.49, rel=1e-12)
    np.testing.assert_allclose(found.power[1:], 0, atol=1e-28)
    if size > 1:
        assert found.mean_frequency == pytest.approx(0, abs=1e-28)


def test_each_mode_is_found_where_it_is():
    modes, eigenvalues = laplacian_modes(3)
    for k, mode in enumerate(modes):
        found = spectrum(2 * mode[:, :, None, None])
        np.testing.assert_allclose(found.power, 4 * np.eye(9)[k], atol=1e-28)
        assert found.mean_frequency == pytest.approx(9 * eigenvalues[k] / 24, abs=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_default_initialization_is_white(size):
    kernel, fan_in = default_kernel(size, size, 64, 256)
    found, pairs = spectrum(kernel), 64 * 256
    modes, _ = laplacian_modes(size)
    error = [(oracle.uniform_square_variance(fan_in, m) / pairs) ** 0.5 for m in modes]
    # Five standard errors, each about 1 % of the power.
    assert (np.abs(found.power - random_power(fan_in)) < 5 * np.array(error)).all()
    # A variance's own relative error is sqrt((kurtosis - 1) / pairs) / 2, at most 3.3 % for
    # squares of normal numbers (kurtosis 15).
    np.testing.assert_allclose(found.power_se, error, rtol=5 * np.sqrt(14 / pairs) / 2)
    if size > 1:
        assert abs(found.mean_frequency - 1) < 5 * found.mean_frequency_se
        assert found.mean_frequency_se < 0.01


def test_errors_are_those_of_the_jackknife():
    kernel = random_kernel(3, 3, 10, 20)
    found = spectrum(kernel)
    modes, _ = laplacian_modes(3)
    jackknife = [oracle.jackknife_power(kernel, mode) for mode in modes]
    np.testing.assert_allclose(found.power_se, jackknife, rtol=1e-9)
    # The delta method is the jackknife's first order; the next is 1/pairs.
    expected = oracle.jackknife_mean_frequency(kernel)
    assert found.mean_frequency_se == pytest.approx(expected, rel=5 / 200)


def test_the_error_of_the_mean_frequency_is_the_bootstraps():
    kernel = random_kernel(3, 3, 10, 20)
    # 1000 resamples have an error of 1/sqrt(2000) = 2.2 %; four of them.
    expected = oracle.bootstrap_mean_frequency(kernel, 1000, seed=1)
    assert spectrum(kernel).mean_frequency_se == pytest.approx(expected, rel=0.09)


def test_float32_kernels_are_measured_in_float64():
    kernel = random_kernel(3, 3, 4, 5).astype(np.float32)
    found = spectrum(kernel)
    np.testing.assert_array_equal(found.power, spectrum(kernel.astype(np.float64)).power)
    assert found.power.dtype == np.float64


def test_what_has_no_frequency_is_nan_without_a_warning():
    for kernel in (np.zeros((3, 3, 2, 2)), np.ones((1, 1, 2, 2))):
        found = spectrum(kernel)
        assert np.isnan(found.mean_frequency)
        assert np.isnan(found.mean_frequency_se)
    single = spectrum(random_kernel(3, 3, 1, 1))
    assert np.isnan(single.power_se).all()
    assert np.isnan(single.mean_frequency_se)
    assert single.mean_frequency > 0


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="expected square filters on the first two axes, got 3 x"):
        spectrum(np.ones((3, 5, 2, 2)))
    with pytest.raises(ValueError, match="filter size of 1 or more, got 0"):
        laplacian_modes(0)
    with pytest.raises(ValueError, match="fan-in of 1 or more, got 0"):
        random_power(0)
