"""The images that deep networks are measured on: clean, deformed, and with noise."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax import Array
from jaxtyping import Float, Int
import numpy as np

from cnnpool.data.images import MeasurementData
from cnnpool.diffeomorphisms import temperature
from cnnpool.measuring.image_settings import Settings
from cnnpool.perturbation import Inputs, perturb, refuse_same

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


def check(data: MeasurementData, settings: Settings) -> None:
    """Refuses a measurement that is impossible on the data, before anything is computed.

    Raises:
      ValueError: if there are too few images, they are not square or all the same, or a
        diffeomorphism is impossible or not the data's own.
    """
    images = data.test.images[chosen_images(settings, len(data.test.labels))]
    refuse_same(images)
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
    """(delta, cutoff, inputs) of every kind of diffeomorphism; NaN and 0 for a data set's own."""
    keys = measurement_keys(settings.seed)
    clean = clean_images(data, settings)
    if data.own_perturbations is not None:
        chosen = chosen_images(settings, len(data.test.labels))
        perturbed = data.own_perturbations(keys.diffeomorphism, settings.draws, chosen)
        yield float("nan"), 0, Inputs(clean, *perturbed)
        return
    for delta, cutoff in settings.fields:
        yield (
            delta,
            cutoff,
            perturb(
                clean,
                keys.diffeomorphism,
                keys.noise,
                delta=delta,
                cutoff=cutoff,
                interpolation=settings.interpolation,
                draws=settings.draws,
            ),
        )
