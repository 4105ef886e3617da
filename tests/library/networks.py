"""A small network in three frameworks, with the same weights, and images for it."""

import jax
import jax.numpy as jnp
import numpy as np

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


def assert_same(ours, theirs, *, relative=2e-4):
    """Numbers of two programs, layer by layer, to the rounding of float32 in D, a difference."""
    for name in ("D", "G", "R", "D_se", "G_se", "R_se"):
        np.testing.assert_allclose(
            np.asarray(ours[name]).ravel(), np.asarray(theirs[name]).ravel(), rtol=relative
        )
