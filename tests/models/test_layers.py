"""Layers against slow numpy versions written from PyTorch's conventions, and by laws."""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
import numpy as np
import pytest

from cnnpool.models.layers import (
    BatchNorm,
    Chain,
    Conv,
    DropConnect,
    Dropout,
    Linear,
    adaptive_average_pool,
    average_pool,
    flatten,
    max_pool,
    max_pool_2x2,
    pad_single_channel,
)

KEY = jax.random.key(0)


def random_map(*shape, seed=0):
    """Standard normal entries, a numpy array in float64."""
    return np.random.default_rng(seed).standard_normal(shape)


def slow_conv(x, kernel, stride, padding, groups):
    """Cross-correlation by loops; x (b, h, w, c), kernel (k, k, c / groups, out)."""
    size, _, per_group, outputs = kernel.shape
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    y = np.zeros((x.shape[0], rows, columns, outputs))
    for out in range(outputs):
        start = out // (outputs // groups) * per_group
        for i in range(rows):
            for j in range(columns):
                a, b = i * stride, j * stride
                patch = x[:, a : a + size, b : b + size, start : start + per_group]
                y[:, i, j, out] = (patch * kernel[..., out]).sum((1, 2, 3))
    return y


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("stride", "padding", "groups"), [(1, 0, 1), (2, 1, 1), (2, 2, 6), (1, 1, 2)]
)
def test_convolution_agrees_with_loops(stride, padding, groups):
    x = jnp.asarray(random_map(2, 7, 6, 6))
    conv = Conv(12, 3, stride=stride, padding=padding, groups=groups)
    params = conv.init(KEY, x)["params"]
    expected = slow_conv(np.asarray(x), np.asarray(params["kernel"]), stride, padding, groups)
    expected += np.asarray(params["bias"])
    np.testing.assert_allclose(conv.apply({"params": params}, x), expected, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_linear_is_an_affine_map():
    x = jnp.asarray(random_map(5, 7))
    params = Linear(3).init(KEY, x)["params"]
    expected = np.asarray(x) @ np.asarray(params["kernel"]) + np.asarray(params["bias"])
    np.testing.assert_allclose(Linear(3).apply({"params": params}, x), expected, atol=1e-14)


def test_a_layer_without_bias_has_none():
    assert set(Conv(2, 1, use_bias=False).init(KEY, jnp.ones((1, 2, 2, 3)))["params"]) == {"kernel"}
    assert set(Linear(2, use_bias=False).init(KEY, jnp.ones((1, 3)))["params"]) == {"kernel"}


def assert_uniform(leaf, fan_in):
    """U(+-1/sqrt(fan_in)): bounds, and mean square 1/(3 fan_in) within five standard errors."""
    bound = 1 / np.sqrt(fan_in)
    leaf = np.asarray(leaf, np.float64)
    assert np.abs(leaf).max() <= bound * (1 + 1e-6)
    assert abs(leaf.mean()) < 5 * bound / np.sqrt(3 * leaf.size)
    assert abs((leaf**2).mean() - bound**2 / 3) < 5 * bound**2 * np.sqrt(4 / 45 / leaf.size)


@pytest.mark.parametrize(
    ("layer", "shape", "fan_in"),
    [
        (Conv(512, 3), (1, 3, 3, 24), 9 * 24),
        (Conv(512, 3, groups=4), (1, 3, 3, 64), 9 * 16),
        (Conv(2048, 5, groups=2048), (1, 5, 5, 2048), 25),
        (Linear(512), (1, 300), 300),
    ],
)
def test_initialization_is_that_of_pytorch(layer, shape, fan_in):
    for leaf in layer.init(KEY, jnp.ones(shape))["params"].values():
        assert leaf.size >= 512
        assert_uniform(leaf, fan_in)


def slow_batch_norm(x, scale, bias, mean, var):
    """Normalized batch and new running statistics, in float64."""
    x = np.asarray(x, np.float64)
    rows = x.reshape(-1, x.shape[-1])
    y = (x - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5) * scale + bias
    return y, 0.9 * mean + 0.1 * rows.mean(0), 0.9 * var + 0.1 * rows.var(0, ddof=1)


def batch_norm_variables(dtype):
    vectors = random_map(4, 3, seed=1)
    params = {"scale": jnp.asarray(vectors[0], dtype), "bias": jnp.asarray(vectors[1], dtype)}
    stats = {
        "mean": jnp.asarray(vectors[2], "float32"),
        "var": jnp.asarray(vectors[3] ** 2, "float32"),
    }
    return {"params": params, "batch_stats": stats}


# The float32 sums round to 1e-6; a bfloat16 output to 2^-9 of values up to 5.
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("bfloat16", 2e-2)])
def test_batch_norm_agrees_with_numpy(dtype, tolerance):
    x = jnp.asarray(1.5 + 2 * random_map(2, 3, 2, 3), dtype)
    variables = batch_norm_variables(dtype)
    y, updated = BatchNorm(True).apply(variables, x, mutable="batch_stats")
    vectors = jax.tree.map(lambda v: np.asarray(v, "float64"), variables)
    expected, mean, var = slow_batch_norm(x, **vectors["params"], **vectors["batch_stats"])
    assert y.dtype == x.dtype
    np.testing.assert_allclose(np.asarray(y, "float64"), expected, atol=tolerance)
    # Statistics stay in float32 whatever the input. The unbiased variance differs by 9 %.
    assert updated["batch_stats"]["var"].dtype == jnp.float32
    np.testing.assert_allclose(updated["batch_stats"]["mean"], mean, rtol=2e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], var, rtol=2e-6)


def test_batch_norm_in_inference_uses_the_running_statistics():
    x = jnp.asarray(random_map(2, 3, 2, 3), "float32")
    variables = batch_norm_variables("float32")
    y, updated = BatchNorm(False).apply(variables, x, mutable="batch_stats")
    params, stats = (jax.tree.map(np.asarray, variables[k]) for k in ("params", "batch_stats"))
    expected = (np.asarray(x) - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params[
        "scale"
    ] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for name, value in stats.items():
        np.testing.assert_array_equal(updated["batch_stats"][name], value)


def test_batch_norm_leaves_statistics_alone_if_they_are_frozen_or_being_initialized():
    x = 5 + jnp.asarray(random_map(4, 2, 2, 3))
    fresh = BatchNorm(True).init(KEY, x)
    np.testing.assert_array_equal(fresh["batch_stats"]["mean"], np.zeros(3))
    np.testing.assert_array_equal(fresh["batch_stats"]["var"], np.ones(3))
    frozen = BatchNorm(True).apply(fresh, x)
    np.testing.assert_allclose(frozen.mean((0, 1, 2)), np.zeros(3), atol=1e-5)


EIGHT = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
SHARED = NamedSharding(EIGHT, PartitionSpec("data"))


@pytest.mark.parametrize("devices", [1, 8])
def test_the_variance_does_not_cancel_far_from_zero(devices):
    x = jnp.asarray(1000 + random_map(8, 4, 4, 2), "float32")
    fresh = BatchNorm(True).init(KEY, x)
    step = jax.jit(lambda x: BatchNorm(True).apply(fresh, x, mutable="batch_stats"))
    if devices == 1:
        _, updated = step(x)
    else:
        with jax.set_mesh(EIGHT):
            _, updated = step(jax.device_put(x, SHARED))
    expected = 0.9 + 0.1 * np.asarray(x, "float64").reshape(-1, 2).var(0, ddof=1)
    # E x^2 - (E x)^2 would be wrong by 1000^2 2^-24 = 6 %.
    np.testing.assert_allclose(updated["batch_stats"]["var"], expected, rtol=1e-5)


def test_batch_norm_of_a_shared_batch_sees_the_whole_of_it_and_exchanges_twice():
    x = (random_map(16, 2, 2, 3) + np.arange(16)[:, None, None, None]).astype("float32")
    variables = batch_norm_variables("float32")
    stats, dy = variables["batch_stats"], jnp.asarray(random_map(16, 2, 2, 3, seed=2), "float32")

    @jax.jit
    def step(params, x):
        def forward(params, x):
            both = {"params": params, "batch_stats": stats}
            return BatchNorm(True).apply(both, x, mutable="batch_stats")

        y, pullback, updated = jax.vjp(forward, params, x, has_aux=True)
        return y, updated, pullback(dy)

    expected = step(variables["params"], x)
    with jax.set_mesh(EIGHT):
        program = step.lower(variables["params"], jax.device_put(x, SHARED)).compile()
        found = program(variables["params"], jax.device_put(x, SHARED))
    for got, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    # Statistics forward; the two sums of the gradient, which compilers of accelerators join.
    counts = {kind: program.as_text().count(f" {kind}(") for kind in ("all-gather", "all-reduce")}
    assert counts["all-gather"] == 1
    assert 1 <= counts["all-reduce"] <= 2


def test_batch_norm_refuses_one_value_a_channel():
    with pytest.raises(ValueError, match=r"two values a channel.*larger batch"):
        BatchNorm(True).init(KEY, jnp.ones((1, 1, 1, 4)))


def slow_max_pool(x, dy=None):
    """Maxima of 2 x 2 blocks, and the gradient of sum(dy y): all to the first maximum."""
    batch, height, width, channels = x.shape
    y, dx = np.zeros((batch, height // 2, width // 2, channels)), np.zeros(x.shape)
    for b, i, j, c in np.ndindex(y.shape):
        block = x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = divmod(int(block.argmax()), 2)
        y[b, i, j, c] = block[row, column]
        dx[b, 2 * i + row, 2 * j + column, c] = 0 if dy is None else dy[b, i, j, c]
    return y, dx


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_agree_with_loops(size, ties):
    x = random_map(3, *size, 4)
    x = np.round(x) if ties else x
    y, gradient = jax.vjp(max_pool_2x2, jnp.asarray(x))
    dy = random_map(*y.shape, seed=1)
    expected_y, expected_dx = slow_max_pool(x, dy)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(gradient(jnp.asarray(dy))[0], expected_dx)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 0), (3, 2, 1), (2, 2, 0)])
@pytest.mark.parametrize("ties", [False, True])
def test_any_max_pool_and_its_gradient_agree_with_loops(size, stride, padding, ties):
    x = random_map(2, 7, 8, 3)
    x = np.round(x) if ties else x
    y, gradient = jax.vjp(
        lambda x: max_pool(x, size=size, stride=stride, padding=padding), jnp.asarray(x)
    )
    dy = random_map(*y.shape, seed=1)
    edge = (padding, padding)
    padded = np.pad(x, ((0, 0), edge, edge, (0, 0)), constant_values=-np.inf)
    expected = np.zeros(padded.shape)
    for b, i, j, c in np.ndindex(y.shape):
        block = padded[b, i * stride : i * stride + size, j * stride : j * stride + size, c]
        row, column = divmod(int(block.argmax()), size)  # the first one, as PyTorch takes it
        assert y[b, i, j, c] == block[row, column]
        expected[b, i * stride + row, j * stride + column, c] += dy[b, i, j, c]
    inner = expected[:, padding : padding + 7, padding : padding + 8]
    # Windows overlap: the sums of a pixel are in another order.
    np.testing.assert_allclose(gradient(jnp.asarray(dy))[0], inner, atol=1e-14)


def test_max_pool_keeps_dtype_and_does_not_hide_nan():
    x = jnp.ones((1, 4, 4, 2), jnp.bfloat16).at[0, 0, 1, 0].set(jnp.nan)
    y = max_pool_2x2(x)
    assert y.dtype == jnp.bfloat16
    assert np.isnan(np.asarray(y, "float32")).sum() == 1
    gradient = jax.grad(lambda x: max_pool_2x2(x).sum())(x)
    assert gradient.dtype == jnp.bfloat16


def test_a_map_of_one_pixel_is_not_pooled():
    with pytest.raises(ValueError, match=r"at least 2 x 2 pixels, got 1 x 4; take larger"):
        max_pool_2x2(jnp.ones((1, 1, 4, 2)))


def test_average_pool_flatten_and_padding():
    x = random_map(2, 3, 4, 5).astype("float32")
    maps = jnp.asarray(x)
    np.testing.assert_allclose(average_pool(maps), x.mean((1, 2)), atol=1e-6)
    flat = [x[:, i, j, c] for c in range(5) for i in range(3) for j in range(4)]
    np.testing.assert_array_equal(flatten(maps), np.stack(flat, 1))
    np.testing.assert_array_equal(pad_single_channel(maps), x)
    padded = pad_single_channel(maps[..., :1])
    assert padded.shape == (2, 7, 8, 1)
    np.testing.assert_allclose(padded.sum(), x[..., 0].sum(), rtol=1e-5)
    np.testing.assert_array_equal(padded[:, 2:-2, 2:-2], x[..., :1])


def test_dropout_keeps_the_expectation():
    x = jnp.full((100, 100), 2.0)
    y = np.asarray(Dropout(0.25, True).apply({}, x, rngs={"dropout": KEY}))
    np.testing.assert_allclose(np.unique(y), [0, 2 / 0.75], rtol=1e-6)
    # Five standard errors of the mean of 10^4 entries of standard deviation 2 sqrt(1/3).
    assert abs(y.mean() - 2) < 5 * 2 * np.sqrt(0.25 / 0.75) / 100


def test_drop_connect_drops_whole_images():
    x = jnp.ones((400, 2, 2, 3), jnp.bfloat16)
    y = DropConnect(0.5, True).apply({}, x, rngs={"dropout": KEY})
    assert y.dtype == jnp.bfloat16
    images = np.asarray(y, "float32").reshape(400, -1)
    assert set(images.sum(1)) == {0, 24}
    assert abs(images.mean() - 1) < 5 / np.sqrt(400)


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.5, False)])
def test_dropout_is_the_identity_at_rate_zero_and_outside_training(rate, train):
    x = jnp.ones((4, 5))
    np.testing.assert_array_equal(Dropout(rate, train).apply({}, x), x)


def test_dropout_multiplies_by_a_mask_that_it_is_fed():
    x, mask = jnp.ones((2, 3)), np.array([[0, 2, 0], [2, 0, 2]], "float32")
    y = Dropout(0.5, True).apply({"masks": {"mask": mask}}, x)
    np.testing.assert_array_equal(y, mask)


def test_a_chain_records_in_order_and_a_branch_leaves_its_value_alone():
    chain = Chain(jnp.ones((1, 2)))
    chain.apply("double", lambda x: 2 * x)
    side = chain.branch(chain.value)
    side.apply("negative", lambda x: -x)
    chain.apply("relu", nn.relu)
    assert list(chain.activations) == ["double", "negative", "relu"]
    assert float(chain.value[0, 0]) == 2
    assert float(chain.activations["negative"][0, 0]) == -2


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding"), [(7, 3, 2, 0), (8, 3, 2, 1), (9, 3, 2, 1), (5, 2, 3, 0)]
)
def test_max_pools_are_maxima_of_windows(side, size, stride, padding):
    x = random_map(2, side, side + 1, 3) - 5  # negative: zeros outside would win
    padded = np.full((2, side + 2 * padding, side + 1 + 2 * padding, 3), -np.inf)
    padded[:, padding : padding + side, padding : padding + side + 1] = x
    rows, columns = ((n - size) // stride + 1 for n in padded.shape[1:3])
    expected = np.zeros((2, rows, columns, 3))
    for p in range(rows):
        for q in range(columns):
            window = padded[:, stride * p : stride * p + size, stride * q : stride * q + size]
            expected[:, p, q] = window.max((1, 2))
    found = max_pool(jnp.asarray(x, jnp.float32), size=size, stride=stride, padding=padding)
    np.testing.assert_array_equal(found, expected.astype(np.float32))


def test_a_max_pool_larger_than_its_map_is_refused():
    with pytest.raises(ValueError, match="take larger images"):
        max_pool(jnp.zeros((1, 2, 2, 1)), size=3, stride=2)


@pytest.mark.parametrize(("side", "size"), [(7, 7), (14, 7), (9, 6), (3, 7), (1, 6), (13, 6)])
def test_adaptive_pools_are_means_of_pytorch_s_windows(side, size):
    """Window p reaches from floor(p n / size) to ceil((p + 1) n / size), by PyTorch's source."""
    x = random_map(2, side, side, 3)
    expected = np.zeros((2, size, size, 3))
    starts = [int(np.floor(p * side / size)) for p in range(size)]
    ends = [int(np.ceil((p + 1) * side / size)) for p in range(size)]
    for p in range(size):
        for q in range(size):
            expected[:, p, q] = x[:, starts[p] : ends[p], starts[q] : ends[q]].mean((1, 2))
    found = adaptive_average_pool(jnp.asarray(x, jnp.float32), size)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
