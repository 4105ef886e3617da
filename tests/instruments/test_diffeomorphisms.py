"""Max-entropy diffeomorphisms against a slow oracle, scipy, and their exact variance."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from cnnpool.instruments import diffeomorphisms
from cnnpool.instruments.diffeomorphisms import INTERPOLATIONS, deform, sample_displacements, warp
from tests.oracles import diffeomorphisms as oracle

NAMES = sorted(INTERPOLATIONS)
EXACT_AT_REST = ["bilinear", "nearest"]
SAMPLED = [(12, 3), (9, 5)]


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@functools.partial(jax.jit, static_argnames=("size", "cutoff"))
def _fields(keys, *, size, cutoff, temperature):
    return jax.vmap(
        lambda key: sample_displacements(key, size=size, cutoff=cutoff, temperature=temperature)
    )(keys)


def fields(*, size, cutoff, temperature=1.0, seed=0):
    """Displacements of 5000 images; always as many, because compiling random numbers is slow."""
    return _fields(keys_of(5000, seed), size=size, cutoff=cutoff, temperature=temperature)


@functools.partial(jax.jit, static_argnames="name")
def warped(images, displacements, *, name):
    """Many images at once; compiled, because single operations are compiled one by one."""
    return jax.vmap(functools.partial(warp, interpolation=INTERPOLATIONS[name]))(
        images, displacements
    )


def large_fields(size):
    """Three fields that leave the image at every side: rough, in half pixels, and none."""
    rough = np.random.default_rng(0).normal(0, 3, (size, size, 2)).transpose(2, 0, 1)
    return jnp.asarray(np.stack([rough, np.round(2 * rough) / 2, 0 * rough]))


def pictures(count, size, channels=2):
    shape = (count, size, size, channels)
    return jnp.asarray(np.random.default_rng(1).normal(0, 1, shape))


# Temperatures


@pytest.mark.parametrize(("delta", "size", "cutoff"), [(1, 32, 3), (0.5, 28, 10), (3.0, 224, 5)])
def test_temperature_solves_the_protocols_equation(delta, size, cutoff):
    found = diffeomorphisms.temperature(delta, size=size, cutoff=cutoff)
    assert found == pytest.approx(oracle.temperature(delta, size, cutoff), rel=1e-12)


def test_natural_diffeomorphisms_at_cutoff_10_have_delta_up_to_1_02():
    least, most = diffeomorphisms.natural_deltas(size=32, cutoff=10)
    assert least == 0.5
    assert most == pytest.approx(1.02, abs=0.005)
    natural = functools.partial(diffeomorphisms.is_natural, size=32, cutoff=10)
    flags = [natural(delta) for delta in (0.49, 0.5, 1, most, 1.03, math.nan)]
    assert flags == [False, True, True, True, False, False]


@pytest.mark.parametrize(("size", "cutoff"), [(32, 3), (32, 10), (28, 2), (224, 3)])
def test_natural_deltas_are_the_paper_s_temperatures(size, cutoff):
    bounds = diffeomorphisms.natural_deltas(size=size, cutoff=cutoff)
    found = [diffeomorphisms.temperature(delta, size=size, cutoff=cutoff) for delta in bounds]
    t_min = 1 / (math.pi * size**2 * math.log(cutoff))
    t_max = 4 / (math.pi**3 * cutoff**2 * math.log(cutoff))
    np.testing.assert_allclose(found, [t_min, t_max], rtol=1e-12)


def test_no_diffeomorphism_of_a_small_image_is_natural():
    least, most = diffeomorphisms.natural_deltas(size=4, cutoff=3)
    assert least > most
    assert not diffeomorphisms.is_natural(0.5, size=4, cutoff=3)


# Displacements


@pytest.mark.parametrize(("size", "cutoff"), [(12, 3), (9, 5), (32, 10)])
def test_variance_agrees_with_the_oracle(size, cutoff):
    found = diffeomorphisms.displacement_variance(0.01, size=size, cutoff=cutoff)
    # The oracle's border is the square of sin(i pi) = 1e-16.
    np.testing.assert_allclose(found, oracle.variances(0.01, size, cutoff), rtol=1e-12, atol=1e-28)


@pytest.mark.parametrize("delta", [1.0, 2.0])
def test_the_nominal_displacement_is_an_approximation(delta):
    size, cutoff = 32, 3
    t = diffeomorphisms.temperature(delta, size=size, cutoff=cutoff)
    # The centre lies between pixels. The protocol prints 0.90, 1.26 and 0.81.
    centre = oracle.variance(t, 0.5, 0.5, size, cutoff)
    assert np.sqrt(centre) / delta == pytest.approx(0.9007, abs=1e-4)
    assert np.sqrt(2 * centre) / delta == pytest.approx(1.2738, abs=1e-4)
    variance = diffeomorphisms.displacement_variance(t, size=size, cutoff=cutoff)
    assert np.sqrt(variance[16, 16]) / delta == pytest.approx(0.90, abs=0.005)
    assert np.sqrt(2 * variance.mean()) / delta == pytest.approx(0.8162, abs=1e-4)


def test_at_a_large_cutoff_the_approximation_is_good():
    size, cutoff = 256, 100
    t = diffeomorphisms.temperature(1.0, size=size, cutoff=cutoff)
    variance = diffeomorphisms.displacement_variance(t, size=size, cutoff=cutoff)
    # The sum over a quarter of a disc is pi/8 ln c + O(1): delta is the rms of the vector.
    assert np.sqrt(2 * variance.mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("size", "cutoff"), SAMPLED)
def test_samples_have_the_exact_variance_at_every_pixel(size, cutoff):
    t, chunks = 0.003, 50
    mean_square = np.zeros((size, size))
    for seed in range(chunks):
        drawn = fields(size=size, cutoff=cutoff, temperature=t, seed=seed)
        mean_square += np.asarray(jnp.square(drawn).mean((0, 1)), np.float64) / chunks
    # Two components of 250,000 fields: the standard error is sqrt(2/N) = 0.2 %, of which 1 %
    # is five.
    expected = oracle.variances(t, size, cutoff)[1:-1, 1:-1]
    np.testing.assert_allclose(mean_square[1:-1, 1:-1], expected, rtol=0.01)


@pytest.mark.parametrize(("size", "cutoff"), SAMPLED)
def test_the_border_stays_exactly(size, cutoff):
    drawn = np.array(fields(size=size, cutoff=cutoff, temperature=10.0))
    assert np.abs(drawn).max() > 10
    drawn[:, :, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(drawn, np.zeros_like(drawn))


@pytest.mark.parametrize(("size", "cutoff"), SAMPLED)
def test_fields_consist_of_the_protocols_modes(size, cutoff):
    drawn = np.asarray(fields(size=size, cutoff=cutoff)[:2], np.float64)
    for component in drawn.reshape(4, size, size):
        found = oracle.coefficients_of(component)
        kept = {(i, j): found[i - 1, j - 1] for i, j in oracle.modes(cutoff)}
        for i, j in kept:
            found[i - 1, j - 1] = 0
        # Fields of about ten pixels in float32; coefficients are of order 1.
        np.testing.assert_allclose(found, 0, atol=1e-5)
        assert min(np.abs(list(kept.values()))) > 1e-3
        np.testing.assert_allclose(component, oracle.field(kept, size), atol=1e-5)


def test_the_cutoff_is_round():
    assert (2, 2) in oracle.modes(3)
    assert (2, 3) not in oracle.modes(3)
    assert len(oracle.modes(3)) == 6


def test_components_and_images_are_independent():
    drawn = [np.asarray(fields(size=12, cutoff=3, seed=seed), np.float64) for seed in range(8)]
    pairs = np.concatenate(drawn).reshape(-1, 4, 144)
    for pixel in (66, 29, 17):  # near the centre, and two others
        # Four independent numbers a pair of images; five standard errors.
        correlation = np.corrcoef(pairs[:, :, pixel].T)
        np.testing.assert_allclose(correlation, np.eye(4), atol=5 / np.sqrt(len(pairs)))


def test_temperature_scales_a_field():
    cold, hot, none = (fields(size=12, cutoff=3, temperature=t) for t in (0.01, 0.04, 0.0))
    np.testing.assert_allclose(hot, 2 * cold, rtol=1e-5, atol=1e-7)  # float32
    assert not np.any(none)


# Interpolation


def test_bilinear_is_scipys(x64):
    images, displacements = pictures(3, 9), large_fields(9)
    found = warped(images, displacements, name="bilinear")
    for image, field, ours in zip(images, displacements, found, strict=True):
        at = np.indices((9, 9)) - np.asarray(field)
        for c in range(2):
            expected = ndimage.map_coordinates(image[..., c], at, order=1, mode="nearest")
            np.testing.assert_allclose(ours[..., c], expected, atol=1e-13)


def test_nearest_agrees_with_the_oracle_at_halfway_too(x64):
    images, displacements = pictures(3, 9), large_fields(9)
    found = warped(images, displacements, name="nearest")
    for image, field, ours in zip(images, displacements, found, strict=True):
        expected = oracle.warp_nearest(np.asarray(image), np.asarray(field))
        np.testing.assert_array_equal(ours, expected)


def test_gaussian_is_an_average_over_the_whole_image(x64):
    images, displacements = pictures(3, 9), large_fields(9)
    found = warped(images, displacements, name="gaussian")
    for image, field, ours in zip(images, displacements, found, strict=True):
        expected = oracle.warp_gaussian(np.asarray(image), np.asarray(field))
        # What is left out weighs at most 1.4e-6, and is at most two extreme values off.
        assert np.abs(ours - expected).max() < 1.4e-6 * 2 * np.abs(image).max()


def test_gaussian_smooths_at_rest_and_keeps_constants():
    point, constant = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0), jnp.full((9, 9, 1), 3.0)
    displacements = large_fields(9)[jnp.array([2, 0])]
    at_rest, still_constant = warped(jnp.stack([point, constant]), displacements, name="gaussian")
    assert at_rest[4, 4, 0] == pytest.approx(0.68, abs=0.005)
    assert at_rest[4, 5, 0] == pytest.approx(0.07, abs=0.005)
    np.testing.assert_allclose(still_constant, 3, rtol=1e-6)  # float32


@pytest.mark.parametrize("name", EXACT_AT_REST)
def test_without_displacement_nothing_changes(name):
    images = pictures(3, 9)
    found = warped(images, jnp.zeros((3, 2, 9, 9)), name=name)
    np.testing.assert_array_equal(found, images)


@pytest.mark.parametrize("name", EXACT_AT_REST)
def test_whole_steps_move_pixels(name):
    """Content moves down and right where dy and dx are positive; the border is repeated."""
    images, steps = pictures(3, 9), np.array([[2.0, 0.0], [0.0, -3.0], [-1.0, 2.0]])
    displacements = jnp.broadcast_to(jnp.asarray(steps)[:, :, None, None], (3, 2, 9, 9))
    found = warped(images, displacements, name=name)
    for image, (down, right), moved in zip(images, steps, found, strict=True):
        rows = np.clip(np.arange(9) - int(down), 0, 8)
        columns = np.clip(np.arange(9) - int(right), 0, 8)
        np.testing.assert_array_equal(moved, image[rows][:, columns])


@pytest.mark.parametrize("name", NAMES)
def test_all_channels_move_alike(name):
    image, displacements = pictures(3, 9, channels=1), large_fields(9)
    both = warped(jnp.concatenate([image, -2 * image], axis=-1), displacements, name=name)
    np.testing.assert_array_equal(both[..., 1], -2 * both[..., 0])
    assert np.abs(both[..., :1] - image)[0].max() > 1


def test_bilinear_has_the_gradient_of_the_image():
    ramp = jnp.broadcast_to(3 * jnp.arange(9.0)[None, :, None, None], (1, 9, 9, 1))
    field = jnp.full((1, 2, 9, 9), 0.3)
    down, right = jax.grad(lambda d: warped(ramp, d, name="bilinear").sum())(field)[0]
    # Moving content down lowers an increasing ramp by its slope; row 0 is clamped.
    np.testing.assert_allclose(down[1:], -3, rtol=1e-5)
    np.testing.assert_allclose(down[0], 0, atol=1e-6)
    np.testing.assert_allclose(right, 0, atol=1e-5)


# Deformations of batches


def test_deform_is_sample_and_warp_and_chunks_are_the_whole():
    images, keys = pictures(4, 12), keys_of(5000)[:4]
    arguments = {"delta": 1, "cutoff": 3, "interpolation": "bilinear"}
    whole = deform(keys, images, **arguments)
    chunks = [deform(keys[a : a + 2], images[a : a + 2], **arguments) for a in (0, 2)]
    # Float32: positions up to 11 are rounded to 1e-6, pixels are a few units apart.
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1e-5)
    t = diffeomorphisms.temperature(1, size=12, cutoff=3)
    drawn = fields(size=12, cutoff=3, temperature=t)[:4]
    np.testing.assert_allclose(whole, warped(images, drawn, name="bilinear"), atol=1e-5)


def test_every_image_moves_in_its_own_way_and_borders_stay():
    images = jnp.broadcast_to(pictures(1, 12), (4, 12, 12, 2))
    found = deform(keys_of(4), images, delta=1, cutoff=3, interpolation="bilinear")
    for other in (1, 2, 3):
        assert np.abs(found[0] - found[other]).max() > 0.1
    inside = np.array(found - images)
    assert np.abs(inside).max() > 0.1
    inside[:, 1:-1, 1:-1] = 0
    np.testing.assert_array_equal(inside, np.zeros_like(inside))


def test_deform_interpolates_as_asked():
    images, keys = pictures(2, 12), keys_of(5000)[:2]
    found = deform(keys, images, delta=1.0, cutoff=3, interpolation="gaussian")
    t = diffeomorphisms.temperature(1.0, size=12, cutoff=3)
    drawn = fields(size=12, cutoff=3, temperature=t)[:2]
    np.testing.assert_allclose(found, warped(images, drawn, name="gaussian"), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_images_keep_their_type(name, x64):
    images = pictures(3, 9)
    for dtype in (jnp.float32, jnp.float64):
        found = jax.eval_shape(
            functools.partial(deform, delta=1.0, cutoff=3, interpolation=name),
            keys_of(3),
            images.astype(dtype),
        )
        assert found.dtype == dtype
    # A single-precision picture in a field of double precision; pixels and weights are rounded.
    single = warped(images.astype(jnp.float32), large_fields(9), name=name)
    double = warped(images, large_fields(9), name=name)
    np.testing.assert_allclose(single, double, atol=2e-6)


# Refusals


@pytest.mark.parametrize("delta", [0, -1, math.nan, math.inf])
def test_impossible_displacements_are_refused(delta):
    with pytest.raises(ValueError, match="expected a nominal displacement delta > 0"):
        diffeomorphisms.temperature(delta, size=32, cutoff=3)


@pytest.mark.parametrize(("size", "cutoff"), [(1, 3), (32, 1), (32, 0)])
def test_impossible_sizes_and_cutoffs_are_refused(size, cutoff):
    kind = {"size": size, "cutoff": cutoff}
    for call in (
        lambda: diffeomorphisms.temperature(1.0, **kind),
        lambda: diffeomorphisms.natural_deltas(**kind),
        lambda: diffeomorphisms.is_natural(1.0, **kind),
        lambda: diffeomorphisms.displacement_variance(1.0, **kind),
        lambda: sample_displacements(jax.random.key(0), temperature=1.0, **kind),
    ):
        with pytest.raises(ValueError, match=f"got size {size}, cutoff {cutoff}"):
            call()


def test_impossible_images_are_refused():
    bilinear = INTERPOLATIONS["bilinear"]
    with pytest.raises(ValueError, match="expected a square image, got 4 x 5 pixels; crop"):
        warp(jnp.zeros((4, 5, 1)), jnp.zeros((2, 4, 5)), interpolation=bilinear)
    with pytest.raises(ValueError, match=r"shape \(2, 4, 4\) .* got \(2, 5, 5\)"):
        warp(jnp.zeros((4, 4, 1)), jnp.zeros((2, 5, 5)), interpolation=bilinear)
    keys, arguments = keys_of(2), {"delta": 1.0, "cutoff": 3}
    with pytest.raises(ValueError, match="got 4 x 5 pixels"):
        deform(keys, jnp.zeros((2, 4, 5, 1)), interpolation="bilinear", **arguments)
    with pytest.raises(ValueError, match=r"'cubic'; expected one of \['bilinear', 'gaussian'"):
        deform(keys, jnp.zeros((2, 4, 4, 1)), interpolation="cubic", **arguments)
