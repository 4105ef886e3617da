"""Scale detection in two dimensions: classify the distance between two active pixels.

See docs/protocol.md, "Scale detection in two dimensions", and section 3 of the paper. The set of
images is finite, so all pairs of pixels are enumerated; training and test images are drawn from
them.
"""

from collections.abc import Callable
import dataclasses

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int, Key
from ml_collections import ConfigDict
import numpy as np

from cnnpool.data.images import Normalized, Perturbations, Split, Stored
from cnnpool.instruments.noise import matched_noise

Positions = Int[np.ndarray, "images 2 2"]
Distances = Float[np.ndarray, " images"]
Labels = Int[np.ndarray, " images"]
Indices = Int[np.ndarray, " chosen"]
Images = Float[Array, "*batch size size 1"]


def all_pairs(size: int) -> Positions:
    """(row, column) of both pixels, for all unordered pairs of distinct pixels.

    Args:
      size: d, pixels per side; there are d^2 (d^2 - 1) / 2 pairs.
    """
    pairs = np.stack(np.triu_indices(size * size, k=1), axis=-1)
    return np.stack(np.divmod(pairs, size), axis=-1)


def euclidean(offsets: Int[np.ndarray, "images 2"]) -> Distances:
    """sqrt(dr^2 + dc^2)."""
    return np.sqrt((offsets**2).sum(-1))


def linf(offsets: Int[np.ndarray, "images 2"]) -> Distances:
    """max(|dr|, |dc|)."""
    return np.abs(offsets).max(-1).astype(float)


_DISTANCES: dict[str, Callable[..., Distances]] = {"euclidean": euclidean, "linf": linf}


def pair_distances(pairs: Positions, *, size: int, distance: str, periodic: bool) -> Distances:
    """Distance of the two pixels of each pair, in pixels; the shorter way around if periodic."""
    offsets = np.abs(pairs[:, 0] - pairs[:, 1])
    if periodic:
        offsets = np.minimum(offsets, size - offsets)
    return _DISTANCES[distance](offsets)


def distance_labels(distances: Distances, *, scale: int | float, gap: int | float) -> Labels:
    """+1 where dist < xi - g/2, -1 where dist >= xi + g/2, 0 in the gap between."""
    near, far = distances < scale - gap / 2, distances >= scale + gap / 2
    return near.astype(int) - far.astype(int)


@dataclasses.dataclass(frozen=True, eq=False)
class Scale2D:
    """Training and test images of two active pixels; satisfies `cnnpool.data.images.ImageData`.

    Attributes:
      size: d, pixels per side.
      periodic: whether a pixel that leaves at one border comes back at the opposite one.
      train_pairs: (row, column) of the active pixels of every training image.
      test_pairs: the same for every test image.
      train: the training images, labels alternating between +1 and -1.
      test: the test images, likewise.
      source: the parameters, as text.
    """

    size: int
    periodic: bool
    train_pairs: Int[np.ndarray, "train 2 2"]
    test_pairs: Int[np.ndarray, "test 2 2"]
    train: Split
    test: Split
    source: str

    @property
    def classes(self) -> None:
        """None: labels are +1 and -1."""
        return None

    @property
    def own_perturbations(self) -> Perturbations:
        """Moves of the active pixels; see `perturb_some`."""
        return self.perturb_some

    def augment(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """The images as they are; the key is unused."""
        return self.normalize(key, images)

    def normalize(self, key: Key[Array, ""], images: Stored) -> Normalized:
        """The images as they are; the key is unused."""
        return images.astype(jnp.float32)

    def move(self, key: Key[Array, ""], pair: Int[Array, "2 2"]) -> Int[Array, "2 2"]:
        """The diffeomorphism of one image: each active pixel moves independently by one step.

        The step is a unit vector of uniform angle, rounded to the grid: each of the four nearest
        neighbours has probability 1/6, each of the four diagonal neighbours 1/12. Pixels stop at
        the border, or reappear on the opposite side if periodic.
        """
        angle = jax.random.uniform(key, (2,), maxval=2 * jnp.pi)
        steps = jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1)
        moved = pair + jnp.round(steps).astype(pair.dtype)
        return moved % self.size if self.periodic else jnp.clip(moved, 0, self.size - 1)

    def perturb(
        self, key: Key[Array, ""], draws: int
    ) -> tuple[Float[Array, "draws images d d 1"], Float[Array, "draws images d d 1"]]:
        """Deformed and noisy copies of all test images; see `perturb_some`."""
        return self.perturb_some(key, draws, np.arange(len(self.test_pairs)))

    def perturb_some(
        self, key: Key[Array, ""], draws: int, chosen: Indices
    ) -> tuple[Float[Array, "draws chosen d d 1"], Float[Array, "draws chosen d d 1"]]:
        """Deformed and noisy copies of some test images.

        eta is white Gaussian noise with ||eta||_2 = ||tau(x) - x||_2 on every image. An
        image's moves and noise depend only on the key and its index, so that chunks together
        equal what `perturb` returns, up to the rounding of the noise's norm. See
        docs/protocol.md, "Noise" and "Scale detection in two dimensions".

        Args:
          key: randomness of moves and noise.
          draws: number of independent moves and noises per image.
          chosen: indices of test images.

        Returns:
          tau(x) and x + eta.
        """
        move_key, noise_key = jax.random.split(key)
        shape = (draws, len(self.test_pairs))
        move_keys, noise_keys = (
            jax.random.split(k, shape)[:, chosen] for k in (move_key, noise_key)
        )
        over_images = jax.vmap(self.move)
        moved = jax.vmap(over_images, (0, None))(move_keys, jnp.asarray(self.test_pairs[chosen]))
        deformed = render(moved, size=self.size)
        clean = self.test.images[chosen][None]
        noise = jax.vmap(jax.vmap(matched_noise))(noise_keys, deformed - clean)
        return deformed, clean + noise


def render(pairs: Int[Array, "*batch 2 2"], *, size: int) -> Images:
    """Images with the value d^2/2 at both (row, column), or d^2 if they coincide."""
    flat = pairs[..., 0] * size + pairs[..., 1]
    active = jax.nn.one_hot(flat, size * size).sum(-2)
    return (size**2 / 2 * active).reshape(*pairs.shape[:-2], size, size, 1)


def balanced_split(
    key: Key[Array, ""], labels: Labels, *, train_size: int, test_size: int
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Draws disjoint training and test images, half of each class.

    The test images do not depend on `train_size`.

    Args:
      key: randomness of the draw.
      labels: +1, -1, or 0 for images that are never drawn.
      train_size: even.
      test_size: even.

    Returns:
      Indices of training and test images, alternating between positive and negative.

    Raises:
      ValueError: if a size is not even and positive, or a class has too few images.
    """
    for field, value in (("train_size", train_size), ("test_size", test_size)):
        if value <= 0 or value % 2:
            raise ValueError(f"data.{field} must be even and positive, got {value}")
    wanted = (train_size + test_size) // 2
    train, test = [], []
    for class_key, label in zip(jax.random.split(key), (1, -1), strict=True):
        members = np.flatnonzero(labels == label)
        if wanted > len(members):
            raise ValueError(
                f"data.train_size {train_size} and data.test_size {test_size} require {wanted} "
                f"different images of class {label:+d}; there are {len(members)}, so that the "
                f"sum of both sizes can be at most {2 * len(members)}"
            )
        order = np.asarray(jax.random.permutation(class_key, members))
        train.append(order[: train_size // 2])
        test.append(order[len(order) - test_size // 2 :])
    return np.stack(train, axis=-1).ravel(), np.stack(test, axis=-1).ravel()


def labelled_pairs(
    *, size: int, scale: int | float, gap: int | float, distance: str, periodic: bool
) -> tuple[Positions, Labels]:
    """All pairs outside the gap with their labels.

    d = 28, xi = 14, g = 2 gives 130,206 positive and 145,202 negative ones.

    Raises:
      ValueError: if the distance is unknown, a number is out of range or a class is empty.
    """
    if distance not in _DISTANCES:
        raise ValueError(f"data.distance is {distance!r}; expected one of {sorted(_DISTANCES)}")
    if size < 2 or scale <= 0 or gap < 0:
        raise ValueError(
            f"expected size >= 2, scale > 0, gap >= 0; got size {size}, scale {scale}, gap {gap}"
        )
    pairs = all_pairs(size)
    distances = pair_distances(pairs, size=size, distance=distance, periodic=periodic)
    labels = distance_labels(distances, scale=scale, gap=gap)
    for label in (1, -1):
        if not (labels == label).any():
            raise ValueError(
                f"no image has label {label:+d} with size {size}, scale {scale}, gap {gap}: "
                f"{distance} distances run from {distances.min():g} to {distances.max():.4g}"
            )
    kept = labels != 0
    return pairs[kept], labels[kept]


def build(config: ConfigDict) -> Scale2D:
    """The data set of a config's `data` section.

    Args:
      config: fields `size` (d), `scale` (xi) and `gap` (g) in pixels, `distance`
        ("euclidean" or "linf"), `periodic`, `train_size`, `test_size`, `seed` (for
        drawing the images).

    Raises:
      ValueError: if a parameter is out of range or a class is empty.
    """
    fields = ("size", "scale", "gap", "distance", "periodic")
    task = {field: config[field] for field in fields}
    pairs, labels = labelled_pairs(**task)
    chosen = balanced_split(
        jax.random.key(config.seed),
        labels,
        train_size=config.train_size,
        test_size=config.test_size,
    )
    train, test = (
        Split(
            render(jnp.asarray(pairs[index]), size=config.size),
            jnp.asarray(labels[index], jnp.int32),
        )
        for index in chosen
    )
    return Scale2D(
        size=config.size,
        periodic=config.periodic,
        train_pairs=pairs[chosen[0]],
        test_pairs=pairs[chosen[1]],
        train=train,
        test=test,
        source="scale2d (" + ", ".join(f"{k} {v}" for k, v in task.items()) + ")",
    )
