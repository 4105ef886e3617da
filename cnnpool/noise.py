"""Noise that diffeomorphisms are compared with (protocol, section 2)."""

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Key


def rectified_noise(
    key: Key[Array, ""], shape: tuple[int, ...], sigma: float | Float[Array, ""]
) -> Float[Array, "..."]:
    """eta = ReLU(N(0, sigma^2)), independently at each of `shape`'s pixels.

    Appendix B.2 of the paper inserts Gaussian noise "with already the ReLU applied
    on": the first layer of positive filters would rectify it otherwise only in
    part, and G_k would show a pre-asymptotic behaviour. Its mean is
    sigma / sqrt(2 pi), its second moment sigma^2 / 2.

    Args:
      key: randomness.
      shape: of one image.
      sigma: standard deviation before the rectification, in units of the pixel values.
    """
    return jax.nn.relu(sigma * jax.random.normal(key, shape))


def matched_noise(
    key: Key[Array, ""], difference: Float[Array, "*image"]
) -> Float[Array, "*image"]:
    """White Gaussian noise of the norm of tau(x) - x, for one image.

    eta = g ||tau(x) - x||_2 / ||g||_2 with g ~ N(0, 1) at each pixel, so that the norms
    agree exactly and not on average only (protocol, section 2). An image that did not
    change gets none.

    Args:
      key: randomness.
      difference: tau(x) - x of one image, in units of the pixel values.
    """
    direction = jax.random.normal(key, difference.shape, difference.dtype)
    return direction * (jnp.linalg.norm(difference) / jnp.linalg.norm(direction))


@jax.jit
def noisy_images(
    key: Key[Array, ""],
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "draws images *shape"],
) -> Float[Array, "draws images *shape"]:
    """x + eta with ||eta|| = ||tau(x) - x||, image by image and draw by draw.

    Args:
      key: randomness.
      clean: x.
      deformed: tau(x).
    """
    keys = jax.random.split(key, deformed.shape[:2])
    return clean[None] + jax.vmap(jax.vmap(matched_noise))(keys, deformed - clean[None])
