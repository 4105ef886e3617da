"""The images that deep networks are measured on: clean, deformed, and with noise."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float, Int, Key
import numpy as np

from cnnpool.data.images import MeasurementData
from cnnpool.diffeomorphisms import deform, temperature
from cnnpool.measuring.image_settings import Settings
from cnnpool.noise import matched_noise

# Training splits the plain key of a seed; any constant keeps measurements off those keys.
_KEY_CONSTANT = 20210604


class MeasurementKeys(NamedTuple):
    """The independent randomness of a measurement."""

    choice: Array
    image_noise: Array
    diffeomorphism: Array
    noise: Array
    transform: Array


def measurement_keys(seed: int) -> MeasurementKeys:
    """Keys of a measurement, apart from every training key."""
    key = jax.random.fold_in(jax.random.key(seed), _KEY_CONSTANT)
    return MeasurementKeys(*jax.random.split(key, len(MeasurementKeys._fields)))


class Inputs(NamedTuple):
    """What every network is measured on.

    Attributes:
      clean: x, normalized.
      deformed: tau(x).
      noisy: x + eta.
    """

    clean: Float[Array, "images height width channels"]
    deformed: Float[Array, "draws images height width channels"]
    noisy: Float[Array, "draws images height width channels"]


def check(data: MeasurementData, settings: Settings) -> None:
    """Refuses a measurement that is impossible on the data, before anything is computed.

    Raises:
      ValueError: if there are too few images, they are not square or all the same, or a
        diffeomorphism is impossible or not the data's own.
    """
    images = data.test.images[chosen_images(settings, len(data.test.labels))]
    if bool((images == images[:1]).all()):
        raise ValueError(
            f"all {len(images)} images are the same: D, G and R compare different ones; check the "
            "data, or take more of them with --images"
        )
    if data.own_perturbations is not None:
        settings.refuse_unused()
        return
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(
            f"diffeomorphisms are of square images, got {height} x {width} pixels; crop the images"
        )
    for delta, cutoff in settings.fields:
        temperature(delta, size=height, cutoff=cutoff)


def chosen_images(settings: Settings, count: int) -> Int[np.ndarray, " images"]:
    """Which of `count` test images are measured on; fewer are the first of more.

    Raises:
      ValueError: if there are not that many.
    """
    if settings.images > count:
        raise ValueError(
            f"--images={settings.images} (P) is more than the {count} test images that there are; "
            f"give --images={count} or fewer"
        )
    order = jax.random.permutation(measurement_keys(settings.seed).choice, count)
    return np.asarray(order[: settings.images])


def clean_images(data: MeasurementData, settings: Settings) -> Float[Array, "images h w channels"]:
    """The chosen test images, normalized; noise of the training set is drawn once, here."""
    chosen = chosen_images(settings, len(data.test.labels))
    return data.normalize(measurement_keys(settings.seed).image_noise, data.test.images[chosen])


def deformations(data: MeasurementData, settings: Settings) -> Iterator[tuple[float, int, Inputs]]:
    """(delta, cutoff, inputs) of every kind of diffeomorphism; NaN and 0 for a data set's own.

    An image's fields at different delta are the same up to their size, and so is the direction
    of its noise: what differs between two deltas is their size alone.
    """
    keys = measurement_keys(settings.seed)
    clean = clean_images(data, settings)
    if data.own_perturbations is not None:
        chosen = chosen_images(settings, len(data.test.labels))
        perturbed = data.own_perturbations(keys.diffeomorphism, settings.draws, chosen)
        yield float("nan"), 0, Inputs(clean, *perturbed)
        return
    image_keys = jax.random.split(keys.diffeomorphism, (settings.draws, len(clean)))
    for delta, cutoff in settings.fields:
        deformed = jnp.stack(
            [
                deform(row, clean, delta=delta, cutoff=cutoff, interpolation=settings.interpolation)
                for row in image_keys
            ]
        )
        yield delta, cutoff, Inputs(clean, deformed, noisy_images(keys.noise, clean, deformed))


@jax.jit
def noisy_images(
    key: Key[Array, ""],
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "draws images *shape"],
) -> Float[Array, "draws images *shape"]:
    """x + eta with ||eta|| = ||tau(x) - x||, image by image and draw by draw."""
    keys = jax.random.split(key, deformed.shape[:2])
    return clean[None] + jax.vmap(jax.vmap(matched_noise))(keys, deformed - clean[None])
