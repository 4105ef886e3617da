"""Noise with which diffeomorphisms are compared (docs/protocol.md, "Noise")."""

import functools

import jax
from jax import Array
import jax.numpy as jnp

from cnnpool.shapes import Float, Key

KINDS = WHITE, LUMA, CHROMA = "white", "luma", "chroma"


def rectified_noise(
    key: Key[Array, ""], shape: tuple[int, ...], sigma: float | Float[Array, ""]
) -> Float[Array, "..."]:
    """eta = ReLU(N(0, sigma^2)), independently at each of `shape`'s pixels.

    Appendix B.2 of the paper inserts Gaussian noise "with already the ReLU applied
    on": otherwise a first layer of positive filters would rectify it only in
    part, and G_k would show a pre-asymptotic behaviour. Its mean is
    sigma / sqrt(2 pi), its second moment sigma^2 / 2.

    Args:
      key: randomness.
      shape: shape of one image.
      sigma: standard deviation before the rectification, in units of the pixel values.
    """
    return jax.nn.relu(sigma * jax.random.normal(key, shape))


def check_kind(kind: str, channels: int) -> None:
    """Raises ValueError for an unknown kind of noise, or for chroma if images have no color.

    Args:
      kind: one of `KINDS`.
      channels: number of channels of the images.
    """
    if kind not in KINDS:
        raise ValueError(f"noise {kind!r}: expected one of {', '.join(KINDS)}")
    if kind == CHROMA and channels == 1:
        raise ValueError(
            "chroma noise changes colors and leaves the brightness alone; these images are gray "
            "(one channel), so there is none: leave out chroma"
        )


def matched_noise(
    key: Key[Array, ""], difference: Float[Array, "*space channels"], kind: str = WHITE
) -> Float[Array, "*space channels"]:
    """Gaussian noise with the same norm as tau(x) - x, for one image.

    eta = g ||tau(x) - x||_2 / ||g||_2 with g ~ N(0, 1) at each pixel, so that the norms
    agree exactly, not just on average (docs/protocol.md, "Noise"). An image that tau leaves
    unchanged gets none. Luma and chroma are the two orthogonal parts of white noise: with m the
    mean of g over the channels of a pixel, g is replaced by m in every channel (luma) or by g - m
    (chroma).

    Args:
      key: randomness.
      difference: tau(x) - x for one normalized image.
      kind: "white", "luma" (the same in all channels) or "chroma" (zero summed over channels).

    Raises:
      ValueError: if there is no such kind of noise, or gray images are to get chroma.
    """
    check_kind(kind, difference.shape[-1])
    direction = jax.random.normal(key, difference.shape, difference.dtype)
    if kind != WHITE:
        luma = jnp.broadcast_to(direction.mean(-1, keepdims=True), direction.shape)
        direction = luma if kind == LUMA else direction - luma
    return direction * (jnp.linalg.norm(difference) / jnp.linalg.norm(direction))


@functools.partial(jax.jit, static_argnames="kind")
def noisy_images(
    key: Key[Array, ""],
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "draws images *shape"],
    kind: str = WHITE,
) -> Float[Array, "draws images *shape"]:
    """x + eta with ||eta|| = ||tau(x) - x||, image by image and draw by draw.

    Args:
      key: randomness.
      clean: x, channels last.
      deformed: tau(x).
      kind: kind of noise, see `matched_noise`.
    """
    keys = jax.random.split(key, deformed.shape[:2])
    noise = functools.partial(matched_noise, kind=kind)
    return clean[None] + jax.vmap(jax.vmap(noise))(keys, deformed - clean[None])
