"""The estimator of D, G, R against all-pairs oracles in float64."""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
import matplotlib.image
import numpy as np
import pytest

from cnnpool.instruments import batch_plan
from cnnpool.instruments.activations import Rescaled
from cnnpool.instruments.layer_sums import SKETCH, _piece, _signs, _sketch
from cnnpool.instruments.moments import image_moments
from cnnpool.instruments.perturbation import perturb
from cnnpool.instruments.sensitivity import (
    Sensitivity,
    mean_channel_activations,
    sensitivities,
    sensitivity,
)
from tests.oracles import sensitivity as oracle

pytestmark = pytest.mark.filterwarnings("ignore:30 images are few")


def random_features(offset=0.0, sizes=(7, 5)):
    """Two layers with names whose alphabetical order is not their forward order."""
    first = jax.random.normal(jax.random.key(1), (6, 4, sizes[0]))
    second = jax.random.normal(jax.random.key(2), (sizes[0], sizes[1]))

    def features(x):
        z = jax.nn.relu(jnp.einsum("bi,ipc->bpc", x, first)) + offset
        return {"z_conv": z, "a_pool": jnp.tanh((z - offset).mean(1) @ second) + offset}

    return features


def images(count=40, draws=3, seed=0, size=6):
    rng = np.random.default_rng(seed)
    clean = rng.standard_normal((count, size))
    deformed = clean + 0.4 * rng.standard_normal((draws, count, size)) * rng.random((count, 1))
    noisy = clean + 0.3 * rng.standard_normal((draws, count, size))
    return [jnp.asarray(a, jnp.float32) for a in (clean, deformed, noisy)]


def oracle_inputs(features, clean, deformed, noisy, layer):
    """The float32 activations of one layer, as float64."""

    def run(x):
        return np.asarray(features(x)[layer], np.float64)

    return run(clean), np.stack([run(d) for d in deformed]), np.stack([run(n) for n in noisy])


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("batch_size", [40, 21, 16, 7])  # 21: 3 images, which do not divide 40
def test_agrees_with_all_pairs_in_float64(offset, batch_size):
    features, inputs = random_features(offset), images()
    found = sensitivities(image_moments(features, *inputs, batch_size=batch_size))
    assert list(found) == ["z_conv", "a_pool"], "layers must stay in forward order"
    for layer, value in found.items():
        expected = oracle.all_pairs_sensitivity(*oracle_inputs(features, *inputs, layer))
        np.testing.assert_allclose(value[:3], expected, rtol=1e-5, err_msg=layer)


def test_a_mean_a_hundred_times_the_spread_does_not_cancel():
    features, inputs = random_features(100.0), images()
    moments = image_moments(features, *inputs, batch_size=16)["a_pool"]
    assert moments.center > 1e3 * moments.spread.mean(), "the offset is no offset: the test is void"


def test_jackknife_agrees_with_leaving_out_images_by_hand():
    features, inputs = random_features(), images(count=25)
    found = sensitivities(image_moments(features, *inputs, batch_size=25))
    for layer, value in found.items():
        expected = oracle.jackknife_errors(*oracle_inputs(features, *inputs, layer))
        np.testing.assert_allclose(value[3:], expected, rtol=1e-4, err_msg=layer)


def test_jackknife_agrees_with_the_bootstrap():
    features, inputs = random_features(), images(count=80)
    found = sensitivities(image_moments(features, *inputs, batch_size=80))["z_conv"]
    expected = oracle.bootstrap_errors(
        *oracle_inputs(features, *inputs, "z_conv"), resamples=2000, seed=0
    )
    # 2000 resamples know a standard error to 1/sqrt(4000) = 1.6 %; first-order differences
    # between bootstrap and jackknife are O(1/P) of skewed sums: 10 % holds both.
    np.testing.assert_allclose(found[3:], expected, rtol=0.1)


def test_standard_errors_of_wide_layers_keep_two_digits():
    """More activations than projections, in batches that do not know the mean beforehand.

    A CPU goes through them in pieces; the last piece is shorter where they do not divide them.
    """
    weights = jax.random.normal(jax.random.key(3), (6, 10 * SKETCH)) / 4
    prime = 10223
    assert _piece(10, 10 * SKETCH, SKETCH, "cpu") < 10 * SKETCH
    assert prime % _piece(10, prime, SKETCH, "cpu")

    def features(x):
        wide = jnp.tanh(x @ weights + 1)
        return {"wide": wide, "offset": jnp.tanh(x @ weights) + 30, "prime": wide[:, :prime]}

    inputs = images(count=60, draws=1)
    found = sensitivities(image_moments(features, *inputs, batch_size=30))
    for layer, value in found.items():
        sides = oracle_inputs(features, *inputs, layer)
        expected = oracle.all_pairs_sensitivity(*sides)
        np.testing.assert_allclose(value[:3], expected, rtol=1e-5, err_msg=layer)
        # An image's part of the spread is wrong by |c| / |g| / 16, two percent in batches of 10.
        errors = oracle.jackknife_errors(*sides)
        np.testing.assert_allclose(value[3:], errors, rtol=5e-3, err_msg=layer)


@pytest.mark.parametrize("positions", [1, 5, 700])  # of a layer; 700 have several pieces
def test_rescaled_units_agree_with_all_pairs_in_float64(positions):
    """Gains of both signs and a zero, and offsets a hundred times the spread."""
    weights = jax.random.normal(jax.random.key(3), (6, positions * 12)) / 4
    gain = jnp.array([*np.linspace(-2, 2, 11), 0.0], jnp.float32)
    offset = 100 * jnp.cos(jnp.arange(12.0))

    def features(x):
        f = jnp.tanh(x @ weights + 1).reshape(len(x), positions, 12)
        return {
            "conv": f,
            "bn": Rescaled("conv", gain, offset),
            "drop": Rescaled("conv", jnp.ones(12), jnp.zeros(12)),
            "relu": jax.nn.relu(f),
        }

    def computed(x):
        found = {
            name: np.asarray(f, np.float64) for name, f in features(x).items() if name[0] in "cr"
        }
        bn = found["conv"] * np.asarray(gain, np.float64) + np.asarray(offset, np.float64)
        return found | {"bn": bn, "drop": found["conv"]}

    inputs = images(count=60, draws=2)
    moments = image_moments(features, *inputs, batch_size=50)
    assert list(moments) == ["conv", "bn", "drop", "relu"]
    for layer, value in sensitivities(moments).items():
        sides = oracle_inputs(computed, *inputs, layer)
        expected = oracle.all_pairs_sensitivity(*sides)
        np.testing.assert_allclose(value[:3], expected, rtol=1e-5, err_msg=layer)
        # Sketches of whole channels are as good as fewer projections where channels differ.
        errors = oracle.jackknife_errors(*sides)
        np.testing.assert_allclose(value[3:], errors, rtol=1e-2, err_msg=layer)
        center = np.square(sides[0].mean(0)).sum()
        np.testing.assert_allclose(moments[layer].center, center, rtol=1e-5, err_msg=layer)


@pytest.mark.parametrize(
    ("of", "channels", "message"),
    [
        ("nothing", 5, "'bn': expected gain and offset for .* 'nothing', which is none"),
        ("flat", 5, r"for 'flat', of 7 channels"),
        ("bn", 7, "for 'bn', which is none"),
    ],
)
def test_what_cannot_be_rescaled_is_refused(of, channels, message):
    def features(x):
        rescaled = Rescaled(of, jnp.ones(channels), jnp.ones(channels))
        return {"flat": x @ jnp.ones((6, 7)), "bn": rescaled}

    with pytest.raises(TypeError, match=message):
        image_moments(features, *images())


def test_sketches_keep_inner_products_on_average():
    values = jax.random.normal(jax.random.key(0), (64, 20000)) + 0.3
    sketch = np.asarray(_sketch(values, _signs(jnp.arange(20000)), SKETCH), np.float64)
    assert sketch.shape[1] == SKETCH
    exact, found = np.asarray(values @ values.T), sketch @ sketch.T
    norms = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    # Their standard deviation is at most sqrt(2 / 1000) = 0.045 of the norms; 2080 of them.
    errors = ((found - exact) / norms)[np.triu_indices(64)]
    assert 0.01 < errors.std() < 0.045
    assert abs(errors.mean()) < 0.01


def test_a_dead_layer_gives_nan_and_a_warning_that_names_it():
    def features(x):
        return {"alive": x, "dead_relu": jnp.full((len(x), 3), 1 / 3) + 0 * x[:, :3]}

    moments = image_moments(features, *images(), batch_size=16)
    with pytest.warns(UserWarning, match=r"dead layers: dead_relu;"):
        found = sensitivities(moments)
    assert np.isnan(found["dead_relu"]).all()
    assert np.isfinite(found["alive"]).all()


def test_a_layer_that_does_not_respond_to_noise_has_no_r():
    clean, deformed, _ = images()
    same = jnp.broadcast_to(clean, (1, *clean.shape))
    moments = image_moments(lambda x: {"input": x}, clean, deformed, same, batch_size=16)
    with pytest.warns(
        UserWarning, match=r"dead layers: none; without response to the noise: input\."
    ):
        found = sensitivities(moments)["input"]
    assert found.G == 0
    assert np.isnan(found.R)
    assert np.isfinite(found.D)


def test_mean_channel_activations_average_the_last_axis_and_spare_linear_layers():
    def features(x):
        norm = Rescaled("conv", jnp.array([2.0, 0.0, 1.0]), jnp.array([0.0, 6.0, 0.0]))
        return {"conv": x.reshape(len(x), 2, 3), "linear": x, "bn": norm}

    out = mean_channel_activations(features)(jnp.arange(6.0)[None])
    np.testing.assert_array_equal(out["conv"], [[[1.0], [4.0]]])
    np.testing.assert_allclose(out["bn"], [[[(0 + 6 + 2) / 3], [(6 + 6 + 5) / 3]]])
    assert out["linear"].shape == (1, 6)
    twice = mean_channel_activations(mean_channel_activations(features))(jnp.arange(6.0)[None])
    np.testing.assert_array_equal(twice["conv"], out["conv"])


def test_networks_of_one_shape_share_a_compiled_program():
    traces = []

    def apply(params, x):
        traces.append(1)
        return {"layer": x * params}

    for scale in (1.0, 2.0, 3.0):
        features = jax.tree_util.Partial(apply, jnp.array(scale))
        image_moments(features, *images(), batch_size=40)
        traces_a_network = len(traces)
        traces.clear()
    assert traces_a_network == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, d, n: (c, d[:, :5], n), "deformed has shape"),
        (lambda c, d, n: (c, d, n[:0]), "noisy has shape"),
        (lambda c, d, n: (c[:1], d[:, :1], n[:, :1]), "at least 2 images"),
    ],
)
def test_wrong_shapes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        image_moments(lambda x: {"x": x}, *change(*images()), batch_size=4)


def test_on_real_images(data_dir):
    """Forty ImageNet photographs, moved by a pixel, through average pooling."""
    files = sorted((data_dir / "imagenet_sample" / "val").rglob("*.JPEG"))[:40]
    if not files:
        pytest.skip(f"no imagenet_sample/val in {data_dir}")
    pictures = [np.atleast_3d(matplotlib.image.imread(file)) for file in files]
    corners = [
        np.broadcast_to(p, (*p.shape[:2], 3))[:32, :32] for p in pictures if min(p.shape[:2]) >= 32
    ]
    clean = np.stack(corners).astype(np.float32) / 255
    deformed = np.roll(clean, 1, axis=1)[None]
    size = np.sqrt(((deformed - clean) ** 2).mean())
    noisy = (clean + size * np.random.default_rng(0).standard_normal(clean.shape))[None]

    def features(x):
        return {"input": x, "pool": x.reshape(len(x), 8, 4, 8, 4, 3).mean((2, 4))}

    inputs = [jnp.asarray(a, jnp.float32) for a in (clean, deformed, noisy)]
    found = sensitivities(image_moments(features, *inputs, batch_size=16))
    for layer, value in found.items():
        expected = oracle.all_pairs_sensitivity(*oracle_inputs(features, *inputs, layer))
        np.testing.assert_allclose(value[:3], expected, rtol=1e-5, err_msg=layer)
    assert pytest.approx(1, abs=0.05) == found["input"].R
    # Average pooling kills white noise, not the shift of a photograph.
    assert found["pool"].R - 2 * found["pool"].R_se > found["input"].R


def test_results_are_plain_floats():
    found = sensitivities(image_moments(random_features(), *images(), batch_size=40))
    assert all(isinstance(number, float) for value in found.values() for number in value)
    assert functools.reduce(
        lambda a, b: a and b, [isinstance(v, Sensitivity) for v in found.values()]
    )


def smooth_images(count=30, size=12):
    coarse = jax.random.normal(jax.random.key(5), (count, 4, 4, 2))
    return jax.image.resize(coarse, (count, size, size, 2), "bicubic")


def convolved(x):
    """Layers whose names do not sort in forward order, a convolution and its mean."""
    kernel = jax.random.normal(jax.random.key(6), (8, 2, 3, 3))
    z = jax.nn.relu(jax.lax.conv(x.transpose(0, 3, 1, 2), kernel, (1, 1), "SAME"))
    return {"z_conv": z, "a_pool": z.mean((2, 3))}


def test_one_call_is_perturbation_moments_and_ratios():
    pictures, key = smooth_images(), jax.random.key(7)
    with pytest.warns(UserWarning, match=r"12 x 12 pixels: delta 1\.5 at cut-off 4\. They are"):
        found = sensitivity(convolved, np.asarray(pictures), key, delta=1.5, cutoff=4, draws=2)
    inputs = perturb(pictures, *jax.random.split(key), delta=1.5, cutoff=4, draws=2)
    assert list(found) == ["z_conv", "a_pool"]
    for layer, value in found.items():
        expected = oracle.all_pairs_sensitivity(*oracle_inputs(convolved, *inputs, layer))
        np.testing.assert_allclose(value[:3], expected, rtol=1e-4, err_msg=layer)
    change = [np.linalg.norm(copy - inputs.clean[None], axis=(2, 3)) for copy in inputs[1:]]
    norms = [np.linalg.norm(each, axis=-1) for each in change]
    np.testing.assert_allclose(norms[0], norms[1], rtol=1e-5)
    with pytest.warns(UserWarning, match=r"30 images are few.* P / \(P - 1\) = 1\.034"):
        other = sensitivity(convolved, pictures, jax.random.key(8))
    assert found["a_pool"].R != other["a_pool"].R


@pytest.mark.parametrize(
    ("batches", "steps"),
    [(0.5, [16, 16, 8]), (1, [16, 16, 8]), (2.5, [32, 8]), (3, [40]), (9, [40])],
)
def test_progress_counts_every_image_once_and_calls_change_nothing(monkeypatch, batches, steps):
    told = []
    inputs = images(count=40, draws=1)
    whole = sensitivities(image_moments(random_features(), *inputs, batch_size=48))
    of_one = sum(f[0].nbytes for f in random_features()(inputs[0]).values())
    monkeypatch.setattr(batch_plan, "_CALL_BYTES", int(batches * 48 * of_one))
    found = image_moments(random_features(), *inputs, batch_size=48, on_batch=told.append)
    assert told == steps
    assert sensitivities(found) == whole  # to the bit: batches are the same


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :8], "square"),
        (lambda x: x[:1], "all 1 images are the same"),
        (lambda x: jnp.ones_like(x), "images are the same"),
        (lambda x: x.at[7, 0, 0, 1].set(jnp.nan), "1 of 30 images have pixels.*is number 7"),
        (lambda x: x[0], r"shape \(images, height, width, channels\), got"),
    ],
)
def test_images_that_cannot_be_measured_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        sensitivity(convolved, change(smooth_images()), jax.random.key(0))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.mean(), "dict of named activations, got one that returns"),
        (lambda x: {}, "dict of named activations"),
        (
            lambda x: {"sum": x.sum(0)},
            "'sum': expected floats of shape .images, .* shape .12, 12",
        ),
        (lambda x: {"integers": x.astype(int)}, "'integers': expected floats"),
        (lambda x: {"both": (x, x)}, "'both': expected one array, got tuple"),
    ],
)
def test_functions_without_named_activations_are_refused(function, message):
    with pytest.raises(TypeError, match=message):
        sensitivity(function, smooth_images(), jax.random.key(0))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_activations_are_summed_in_float32(dtype):
    def narrow(x):
        return {name: f.astype(dtype) for name, f in convolved(x).items()}

    def wide(x):
        return {name: f.astype(jnp.float32) for name, f in narrow(x).items()}

    inputs = perturb(smooth_images(), *jax.random.split(jax.random.key(0)))
    found, expected = (
        sensitivities(image_moments(one, *inputs, batch_size=21)) for one in (narrow, wide)
    )
    for layer, values in expected.items():  # the same numbers, summed by another program
        np.testing.assert_allclose(found[layer], values, rtol=1e-5, err_msg=layer)


def test_a_layer_that_is_not_finite_is_named():
    def features(x):
        return {"good": x, "bad_exp": jnp.exp(1e3 * x)}

    moments = image_moments(features, *images(), batch_size=16)
    with pytest.warns(UserWarning, match=r"NaN or infinite: bad_exp; so are"):
        assert np.isnan(sensitivities(moments)["bad_exp"].R)


def test_integer_pixels_are_refused():
    with pytest.raises(TypeError, match="normalize them first"):
        sensitivity(convolved, (255 * smooth_images()).astype(jnp.uint8), jax.random.key(0))


@pytest.mark.parametrize("count", [16, 21, 5])
def test_images_spread_over_devices_give_the_moments_of_one(count):
    """Also where the devices do not divide the images, or are more than them."""
    keys = jax.random.split(jax.random.key(3), 4)
    weights = jax.random.normal(keys[0], (6, 1500))
    clean = jax.random.normal(keys[1], (count, 6))
    deformed, noisy = (clean[None] + 0.1 * jax.random.normal(k, (2, count, 6)) for k in keys[2:])

    def features(x):
        return {"wide": jnp.tanh(1 + x @ weights), "narrow": jnp.tanh(x @ weights[:, :7])}

    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    one = image_moments(features, clean, deformed, noisy, batch_size=25)
    eight = image_moments(features, clean, deformed, noisy, batch_size=25, mesh=mesh)
    assert list(eight) == ["wide", "narrow"]
    for name, expected in sensitivities(one).items():
        found = sensitivities(eight)[name]
        np.testing.assert_allclose(found[:3], expected[:3], rtol=2e-6)
        # Errors come from estimates of g.c with another reference (see `image_moments`).
        np.testing.assert_allclose(found[3:], expected[3:], rtol=0.03)
        assert len(eight[name].spread) == count
