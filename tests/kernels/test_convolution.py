import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.kernels import convolution, tiles, winograd
from cnnpool.kernels.convolution import conv2d, cpu_algorithm

# (height, width, inputs, outputs, kernel, stride, padding, groups): every combination of
# kernel, stride, padding and groups of the networks, sizes that tiles do not divide included.
CASES = [
    (8, 8, 32, 40, 3, 1, 1, 1),
    (7, 5, 32, 32, 3, 1, 1, 1),
    (2, 2, 33, 32, 3, 1, 1, 1),
    (1, 1, 32, 32, 3, 1, 1, 1),
    (4, 4, 48, 32, 3, 1, 1, 1),
    (9, 8, 3, 64, 3, 1, 1, 1),
    (8, 8, 1, 7, 3, 1, 1, 1),
    (9, 9, 3, 12, 3, 2, 1, 1),
    (8, 8, 20, 24, 3, 2, 1, 1),
    (7, 7, 20, 24, 3, 2, 1, 1),
    (12, 12, 3, 6, 5, 1, 0, 1),
    (13, 11, 3, 20, 5, 1, 0, 1),
    (11, 13, 6, 16, 5, 1, 0, 1),
    (8, 8, 24, 20, 1, 1, 0, 1),
    (7, 7, 24, 20, 1, 2, 0, 1),
    (8, 8, 10, 10, 3, 1, 1, 10),
    (8, 8, 10, 10, 3, 2, 1, 10),
    (7, 7, 10, 10, 5, 1, 2, 10),
    (8, 8, 10, 10, 5, 2, 2, 10),
    (6, 6, 12, 20, 3, 1, 1, 4),
]


def _arrays(case, dtype):
    height, width, inputs, outputs, size, stride, padding, groups = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, height, width, inputs)).astype(dtype)
    kernel = rng.normal(size=(size, size, inputs // groups, outputs)).astype(dtype)
    options = {"stride": stride, "padding": padding, "groups": groups}
    y = lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    dy = rng.normal(size=y.shape).astype(dtype)
    return jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(dy), options


def _relative_errors(case, dtype):
    """Largest differences of y, dx and dkernel from XLA's, relative to the largest entry."""
    *arrays, options = _arrays(case, dtype)
    expected = convolution.xla(**options)

    @jax.jit  # one program is compiled in less time than its operations one by one
    def errors(x, kernel, dy):
        y, pullback = jax.vjp(lambda x, kernel: conv2d(x, kernel, **options), x, kernel)
        ours = (y, *pullback(dy))
        theirs = (expected.forward(x, kernel), *expected.backward(x, kernel, dy))
        return [abs(a - b).max() / abs(b).max() for a, b in zip(ours, theirs, strict=True)]

    return [float(error) for error in errors(*arrays)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_xla_in_float64(case, x64):
    assert max(_relative_errors(case, np.float64)) < 1e-12  # the transforms amplify 1e-16 by 100


@pytest.mark.parametrize("case", [CASES[0], CASES[4]], ids=str)
def test_float32_rounding_of_winograd(case):
    assert max(_relative_errors(case, np.float32)) < 3e-5  # F(4x4, 3x3), as published


@pytest.mark.parametrize("case", [CASES[0], CASES[5], CASES[14]], ids=str)
def test_several_networks_at_once(case, x64):
    x, kernel, _, options = _arrays(case, np.float64)
    batched = jax.vmap(lambda x, kernel: conv2d(x, kernel, **options))(
        jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel])
    )
    single = conv2d(x, kernel, **options)
    np.testing.assert_allclose(batched[1], -2 * single, rtol=1e-10, atol=1e-10)


def test_large_maps_go_in_chunks_of_images_and_change_nothing(x64, monkeypatch):
    x, kernel, dy, options = _arrays(CASES[0], np.float64)
    x, dy = jnp.concatenate([x, -x]), jnp.concatenate([dy, 2 * dy])
    whole = cpu_algorithm(x.shape, kernel.shape, **options)
    monkeypatch.setattr(convolution, "_LARGE_MAP", 1)
    monkeypatch.setattr(convolution, "_CACHE_BYTES", 2 * 36 * 4 * 8 * 8 * 40 // 16)
    chunked = cpu_algorithm(x.shape, kernel.shape, **options)
    assert "scan" in str(jax.make_jaxpr(chunked.forward)(x, kernel))
    np.testing.assert_allclose(chunked.forward(x, kernel), whole.forward(x, kernel), rtol=1e-12)
    for ours, theirs in zip(
        chunked.backward(x, kernel, dy), whole.backward(x, kernel, dy), strict=True
    ):
        assert abs(ours - theirs).max() < 1e-12 * abs(theirs).max()


def test_choice_for_a_cpu_is_what_runs_there():
    x, kernel, _, options = _arrays(CASES[0], np.float32)
    chosen = cpu_algorithm(x.shape, kernel.shape, **options).forward
    text = jax.jit(lambda x, kernel: conv2d(x, kernel, **options)).lower(x, kernel).as_text()
    assert "convolution" not in text
    np.testing.assert_array_equal(
        jax.jit(chosen)(x, kernel), jax.jit(lambda x, k: conv2d(x, k, **options))(x, kernel)
    )


def test_other_platforms_keep_their_own_convolution():
    x, kernel, _, options = _arrays(CASES[0], np.float32)
    traced = jax.jit(lambda x, kernel: conv2d(x, kernel, **options)).trace(x, kernel)
    assert "stablehlo.convolution" in traced.lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize(("size", "step", "length"), [(6, 4, 10), (3, 2, 9), (1, 2, 7), (5, 1, 9)])
def test_overlap_is_the_transpose_of_pixels(size, step, length, x64):
    tiles_there = (length - size) // step + 1
    x = np.random.default_rng(0).normal(size=length)
    parts = tiles.pixels(jnp.asarray(x), 0, size=size, step=step, tiles=tiles_there)
    weights = np.random.default_rng(1).normal(size=(size, tiles_there))
    line = np.asarray(tiles.overlap(list(jnp.asarray(weights)), 0, step=step))
    line = np.pad(line, (0, max(0, length - len(line))))[:length]
    np.testing.assert_allclose(np.sum(weights * np.array(parts)), line @ x, rtol=1e-12)


@pytest.mark.parametrize("m", [2, 4])
def test_minimal_filter_is_a_convolution(m):
    B, G, A = winograd.FILTERS[m]
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=m + 2), rng.normal(size=3)
    np.testing.assert_allclose(
        A.T @ ((G @ w) * (B.T @ x)), np.correlate(x, w, "valid"), rtol=1e-12, atol=1e-12
    )


def test_refuses_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="expects 4 input channels"):
        conv2d(jnp.zeros((1, 8, 8, 3)), jnp.zeros((3, 3, 4, 8)))
    with pytest.raises(ValueError, match="smaller than the kernel"):
        conv2d(jnp.zeros((1, 2, 2, 3)), jnp.zeros((5, 5, 3, 8)))
