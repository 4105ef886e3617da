"""Noise that diffeomorphisms are compared with (protocol, section 2)."""

import jax
from jax import Array
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
