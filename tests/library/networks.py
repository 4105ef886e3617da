"""A small network in three frameworks, with the same weights, and images for it."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnpool.instruments.perturbation import perturb
from cnnpool.measuring.inputs import measurement_keys

P = 100  # fewer are warned of


def images(count=P, size=12, channels=3, seed=0):
    """Smooth random images, so that diffeomorphisms move little."""
    coarse = jax.random.normal(jax.random.key(seed), (count, 5, 5, channels))
    return np.array(jax.image.resize(coarse, (count, size, size, channels), "bicubic"))


def weights(seed=0, channels=3):
    """Kernels HWIO, and a matrix (in, out)."""
    random = np.random.default_rng(seed)
    shapes = {"conv1": (3, 3, channels, 8), "conv2": (3, 3, 8, 16), "linear": (16, 5)}
    return {
        name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
        for name, shape in shapes.items()
    }


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def network(kernels, x):
    """Outputs of every convolution and of the linear layer, in JAX."""
    first = convolved(x, kernels["conv1"])
    second = convolved(jax.nn.relu(first), kernels["conv2"])
    pooled = jax.nn.relu(second).mean((1, 2))
    return {"conv1": first, "conv2": second, "linear": pooled @ kernels["linear"]}


def on_the_host(x):
    """The same network, which JAX cannot trace."""
    assert isinstance(x, np.ndarray)
    found = jax.jit(network)(jax.tree.map(jnp.asarray, weights()), np.asarray(x))
    return {name: np.asarray(found[name]) for name in ("conv1", "conv2", "linear")}


def in_numpy(network, x, seed=0):
    """D and G of every layer by their definition, from all activations at once, in float64."""
    keys = measurement_keys(seed)
    inputs = perturb(jnp.asarray(x), keys.diffeomorphism, keys.noise)
    clean, deformed, noisy = (
        {name: np.asarray(f, np.float64).reshape(len(x), -1) for name, f in network(one).items()}
        for one in (
            np.asarray(inputs.clean),
            *map(np.asarray, (inputs.deformed[0], inputs.noisy[0])),
        )
    )
    found = {}
    for name, f in clean.items():
        pairs = np.mean([np.square(f - one).sum(1) for one in f])
        D, G = (np.square(g[name] - f).sum(1).mean() / pairs for g in (deformed, noisy))
        found[name] = {"D": D, "G": G, "R": D / G}
    return found


def assert_is_the_definition(data, network, x, *, relative=2e-4):
    """Measured numbers against `in_numpy`; float32 rounds D, a difference, to about 1e-4."""
    expected = in_numpy(network, x)
    assert data["layer"].values.tolist() == list(expected)
    for name in ("D", "G", "R"):
        numbers = [one[name] for one in expected.values()]
        np.testing.assert_allclose(data[name].values.ravel(), numbers, rtol=relative)


def assert_same(ours, theirs, *, relative=2e-4, errors=None):
    """Numbers of two programs, layer by layer, to the rounding of float32 in D, a difference.

    `errors` is the tolerance of standard errors, if the two take batches of different sizes: of
    single images they estimate one term, to a percent (see `image_moments`).
    """
    for name in ("D", "G", "R", "D_se", "G_se", "R_se"):
        np.testing.assert_allclose(
            np.asarray(ours[name]).ravel(),
            np.asarray(theirs[name]).ravel(),
            rtol=errors if errors and name.endswith("_se") else relative,
        )
