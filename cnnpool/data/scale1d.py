"""Scale detection on a ring of pixels: classify the distance between two active pixels.

See docs/protocol.md, "Scale detection in one dimension", and section 3 and appendix B.2 of the
paper. The set of images is finite, so it is enumerated; a diffeomorphism moves each active pixel by
one.
"""

from collections.abc import Callable
import dataclasses
import math

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int, Key
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data.images import Perturbations, Split
from cnnpool.instruments.noise import rectified_noise

Pair = Int[Array, "2"]
Positions = Int[np.ndarray, "images 2"]
Labels = Int[np.ndarray, " images"]
Images = Float[Array, "*batch length 1"]


def all_pairs(length: int) -> Positions:
    """All unordered pairs i < j of `length` pixels, in lexicographic order."""
    return np.stack(np.triu_indices(length, k=1), axis=-1)


def ring_distance(pairs: Positions, length: int) -> Labels:
    """D = min(|i - j|, L - |i - j|), in pixels."""
    apart = np.abs(pairs[:, 0] - pairs[:, 1])
    return np.minimum(apart, length - apart)


def distance_labels(pairs: Positions, *, length: int, scale: int, gap: int) -> Labels:
    """Task 1: +1 where d < xi - g/2, -1 where d >= xi + g/2, 0 in the gap between.

    Args:
      pairs: positions of the active pixels.
      length: L, pixels of the ring.
      scale: xi, the characteristic scale in pixels.
      gap: g, the whole width of the gap in pixels.
    """
    distance = ring_distance(pairs, length)
    near, far = distance < scale - gap / 2, distance >= scale + gap / 2
    return near.astype(int) - far.astype(int)


def sector_labels(pairs: Positions, *, length: int, scale: int, gap: int) -> Labels:
    """Task 2: +1 if both pixels are in the same of the L/xi sectors, else -1.

    Raises:
      ValueError: if xi does not divide L, or the gap is not 0 (a sector has none).
    """
    if length % scale:
        raise ValueError(
            f"the sector task expects a scale that divides the length; got length {length}, scale "
            f"{scale}"
        )
    if gap:
        raise ValueError(f"the sector task has no gap: expected gap 0, got {gap}")
    sector = pairs // scale
    return np.where(sector[:, 0] == sector[:, 1], 1, -1)


def wrap(pair: Pair, *, length: int) -> Pair:
    """Wraps a position that leaves the ring at one end around to the other end."""
    return pair % length


def clip(pair: Pair, *, length: int) -> Pair:
    """Keeps a position that would leave at one end there (as in the authors' programs)."""
    return jnp.clip(pair, 0, length - 1)


_BOUNDARIES: dict[str, Callable[..., Pair]] = {"wrap": wrap, "clip": clip}
_LABELS: dict[str, Callable[..., Labels]] = {"distance": distance_labels, "sector": sector_labels}


@dataclasses.dataclass(frozen=True, eq=False)
class Scale1D:
    """All images of one task on the ring. Satisfies `cnnpool.data.images.MeasurementData`.

    Attributes:
      length: L, pixels.
      scale: xi, pixels.
      task: "distance" (task 1) or "sector" (task 2).
      boundary: what happens to a pixel that moves off an end: "wrap" or "clip".
      pairs: positions of the active pixels of every labelled image.
      labels: +1 or -1 for each.
    """

    length: int
    scale: int
    task: str
    boundary: str
    pairs: Positions
    labels: Labels

    @property
    def images(self) -> Float[Array, "images length 1"]:
        """The images, each of squared norm L."""
        return render(jnp.asarray(self.pairs), length=self.length)

    @property
    def test(self) -> Split:
        """All images: networks are measured on their training images, too."""
        return Split(self.images, jnp.asarray(self.labels, jnp.int32))

    @property
    def source(self) -> str:
        """The task in words, which determines the images."""
        return (
            f"all {len(self.labels)} images of the task {self.task!r} on a ring of {self.length} "
            f"pixels, scale {self.scale}"
        )

    @property
    def own_perturbations(self) -> Perturbations:
        """Moves of the active pixels and rectified noise, see `perturb`."""

        def of_chosen(key: Key[Array, ""], draws: int, chosen: np.ndarray) -> tuple[Array, Array]:
            deformed, noisy = self.perturb(key, draws)
            return deformed[:, chosen], noisy[:, chosen]

        return of_chosen

    def normalize(self, key: Key[Array, ""], images: Array) -> Array:
        """The images unchanged; the key is unused."""
        del key
        return images

    def move(self, key: Key[Array, ""], pair: Pair) -> Pair:
        """The diffeomorphism of one image: each active pixel moves by +1 or -1.

        Under the sector task a move that leaves the pixel's sector is undone.
        """
        step = 2 * jax.random.bernoulli(key, shape=(2,)).astype(pair.dtype) - 1
        return self.displace(pair, step)

    def displace(self, pair: Pair, step: Int[Array, "2"]) -> Pair:
        """The pair after the given steps of its two pixels, respecting boundary and sectors."""
        moved = _BOUNDARIES[self.boundary](pair + step, length=self.length)
        if self.task == "sector":
            moved = jnp.where(moved // self.scale == pair // self.scale, moved, pair)
        return moved

    def every_move(self) -> Float[Array, "moves images length 1"]:
        """All images under each of the four equally likely moves of their two pixels."""
        steps = jnp.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
        displace = jax.vmap(jax.vmap(self.displace, (0, None)), (None, 0))
        return render(displace(jnp.asarray(self.pairs), steps), length=self.length)

    def perturb(
        self, key: Key[Array, ""], draws: int
    ) -> tuple[Float[Array, "draws images length 1"], Float[Array, "draws images length 1"]]:
        """Deformed and noisy copies of all images (docs/protocol.md, "Noise").

        eta = ReLU(N(0, sigma^2)), sigma^2 the mean over draws, images and pixels
        of (tau(x) - x)^2.

        Args:
          key: randomness of moves and noise.
          draws: number of independent moves and noises per image.

        Returns:
          tau(x) and x + eta.
        """
        move_key, noise_key = jax.random.split(key)
        keys = jax.random.split(move_key, (draws, len(self.pairs)))
        pairs = jnp.broadcast_to(jnp.asarray(self.pairs), (draws, *self.pairs.shape))
        deformed = render(jax.vmap(jax.vmap(self.move))(keys, pairs), length=self.length)
        clean = self.images[None]
        sigma = jnp.sqrt(jnp.mean((deformed - clean) ** 2))
        noise_keys = jax.random.split(noise_key, (draws, len(self.pairs)))
        sample = jax.vmap(jax.vmap(lambda k: rectified_noise(k, clean.shape[2:], sigma)))
        return deformed, clean + sample(noise_keys)


def render(pairs: Int[Array, "*batch 2"], *, length: int) -> Images:
    """Images with the value sqrt(L/2) at each position; coinciding pixels add up."""
    active = jax.nn.one_hot(pairs, length).sum(-2)
    return (math.sqrt(length / 2) * active)[..., None]


def balanced_split(
    key: Key[Array, ""], labels: Labels, size: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " validation"]]:
    """Draws `size` training images, half of each class; all others are for validation.

    Args:
      key: randomness of the draw.
      labels: +1 or -1 for each image.
      size: P, an even number.

    Returns:
      Indices of the training and of the validation images, disjoint, each sorted.

    Raises:
      ValueError: if P is not even and positive, or no image of a class is left over.
    """
    if size <= 0 or size % 2:
        raise ValueError(f"data.train_size must be even and positive, got {size}")
    train = []
    for class_key, label in zip(jax.random.split(key), (1, -1), strict=True):
        members = np.flatnonzero(labels == label)
        if size // 2 >= len(members):
            raise ValueError(
                f"data.train_size {size} requires {size // 2} images of class {label:+d}; there "
                f"are {len(members)}, and validation needs one; set it to at most "
                f"{2 * len(members) - 2}"
            )
        train.append(np.asarray(jax.random.permutation(class_key, members))[: size // 2])
    chosen = np.sort(np.concatenate(train))
    return chosen, np.setdiff1d(np.arange(len(labels)), chosen)


def enumerate_task(*, length: int, scale: int, gap: int, task: str, boundary: str) -> Scale1D:
    """All images of one task; L = 32, xi = 11, g = 4 gives 256 positive and 112 negative.

    Raises:
      ValueError: if a name is unknown or a class would be empty; the message gives the reason.
    """
    for field, value, known in (("task", task, _LABELS), ("boundary", boundary, _BOUNDARIES)):
        if value not in known:
            raise ValueError(f"data.{field} is {value!r}; expected one of {sorted(known)}")
    if length < 4 or scale < 1 or gap < 0:
        raise ValueError(
            f"expected length >= 4, scale >= 1, gap >= 0; got length {length}, scale {scale}, "
            f"gap {gap}"
        )
    pairs = all_pairs(length)
    labels = _LABELS[task](pairs, length=length, scale=scale, gap=gap)
    for label in (1, -1):
        if not (labels == label).any():
            raise ValueError(
                f"no image has label {label:+d} with length {length}, scale {scale}, gap {gap}, "
                f"task {task!r}: distances on the ring run from 1 to {length // 2}"
            )
    kept = labels != 0
    return Scale1D(length, scale, task, boundary, pairs[kept], labels[kept])


def build(config: ConfigDict) -> Scale1D:
    """The data set of a config's `data` section."""
    fields = ("length", "scale", "gap", "task", "boundary")
    return enumerate_task(**{field: config[field] for field in fields})
