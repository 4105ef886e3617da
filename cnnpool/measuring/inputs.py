"""The pictures on which networks are measured: clean, deformed, and with noise."""

from collections.abc import Iterator
import itertools
from typing import Any, NamedTuple

import jax
from jax import Array
import numpy as np

from cnnpool.data.images import MeasurementData
from cnnpool.instruments.diffeomorphisms import temperature
from cnnpool.instruments.noise import WHITE, check_kind
from cnnpool.instruments.perturbation import Inputs, check_images_differ, perturb
from cnnpool.measuring.settings import Settings
from cnnpool.shapes import Float, Int, Key

# Training splits the plain key of a seed; folding in any constant avoids those keys.
_KEY_CONSTANT = 20210604
OWN = "own"


class MeasurementKeys(NamedTuple):
    """The independent randomness of a measurement."""

    choice: Array
    image_noise: Array
    diffeomorphism: Array
    noise: Array
    transform: Array


def measurement_keys(seed: int) -> MeasurementKeys:
    """Keys of a measurement, distinct from every training key."""
    key = jax.random.fold_in(jax.random.key(seed), _KEY_CONSTANT)
    return MeasurementKeys(*jax.random.split(key, len(MeasurementKeys._fields)))


def transform_key(settings: Settings, seed: int, number: int) -> Key[Array, ""]:
    """The randomness of one shuffle of a network.

    Args:
      settings: settings of the measurement.
      seed: seed of the network.
      number: number of the shuffle.
    """
    own = jax.random.fold_in(measurement_keys(settings.seed).transform, seed)
    return jax.random.fold_in(own, number)


def check(data: MeasurementData, settings: Settings) -> None:
    """Raises ValueError for an impossible measurement, before anything is computed.

    Raises:
      ValueError: if there are too few images, they are not square or all the same, or a
        diffeomorphism or kind of noise is impossible or does not apply to this data.
    """
    images = data.test.images[chosen_images(settings, len(data.test.labels))]
    check_images_differ(images)
    if data.own_perturbations is not None:
        settings.check_unused()
        return
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(
            f"diffeomorphisms are of square images, got {height} x {width} pixels; crop the images"
        )
    for kind in settings.noise:
        check_kind(kind, images.shape[-1])
    for delta, cutoff in settings.fields:
        temperature(delta, size=height, cutoff=cutoff)


def chosen_images(settings: Settings, count: int) -> Int[np.ndarray, " images"]:
    """Indices of the test images to measure on; a smaller choice is the first part of a larger.

    Raises:
      ValueError: if there are not that many.
    """
    if settings.images > count:
        raise ValueError(
            f"--images={settings.images} (P) is more than the {count} test images that there are; "
            f"give --images={count} or fewer (in a config measurement.images, in a sweep "
            f"Measurement(settings=(('images', {count}),)))"
        )
    order = jax.random.permutation(measurement_keys(settings.seed).choice, count)
    return np.asarray(order[: settings.images])


def clean_images(data: MeasurementData, settings: Settings) -> Float[Array, "images h w channels"]:
    """The chosen test images, normalized; noise of the training set is drawn once, here."""
    chosen = chosen_images(settings, len(data.test.labels))
    return data.normalize(measurement_keys(settings.seed).image_noise, data.test.images[chosen])


class Perturbation(NamedTuple):
    """What was done to the images.

    Attributes:
      delta: nominal displacement of the diffeomorphism, pixels; NaN for a data set's own.
      cutoff: its cut-off; 0 for a data set's own.
      noise: kind of noise; "own" for a data set's own.
    """

    delta: float
    cutoff: int
    noise: str

    @property
    def label(self) -> str:
        """Its name in the journal; white noise is omitted, so that earlier names stay valid."""
        shown = "" if self.noise in (WHITE, OWN) else f" {self.noise}"
        return f"{self.delta} {self.cutoff}{shown}"

    @property
    def coordinates(self) -> dict[str, Any]:
        """Its coordinates along the perturbation axes; none for a data set's own perturbation."""
        return {} if self.noise == OWN else self._asdict()


OWN_KIND = Perturbation(float("nan"), 0, OWN)


def kinds(data: MeasurementData, settings: Settings) -> list[Perturbation]:
    """All kinds of diffeomorphism and noise, in the order of `perturbations`."""
    if data.own_perturbations is not None:
        return [OWN_KIND]
    return _max_entropy_kinds(settings)


def _max_entropy_kinds(settings: Settings) -> list[Perturbation]:
    product = itertools.product(settings.deltas, settings.cutoffs, settings.noise)
    return [Perturbation(*kind) for kind in product]


def perturbations(
    data: MeasurementData, settings: Settings
) -> Iterator[tuple[Perturbation, Inputs]]:
    """All kinds of diffeomorphism and noise, and the images under each."""
    keys = measurement_keys(settings.seed)
    clean = clean_images(data, settings)
    if data.own_perturbations is not None:
        chosen = chosen_images(settings, len(data.test.labels))
        perturbed = data.own_perturbations(keys.diffeomorphism, settings.draws, chosen)
        yield OWN_KIND, Inputs(clean, *perturbed)
        return
    yield from max_entropy_perturbations(clean, settings)


def max_entropy_perturbations(
    clean: Float[Array, "images h w channels"], settings: Settings
) -> Iterator[tuple[Perturbation, Inputs]]:
    """Images under every max-entropy diffeomorphism and kind of noise of the settings."""
    keys = measurement_keys(settings.seed)
    for kind in _max_entropy_kinds(settings):
        inputs = perturb(
            clean,
            keys.diffeomorphism,
            keys.noise,
            **kind._asdict(),
            interpolation=settings.interpolation,
            draws=settings.draws,
        )
        yield kind, inputs
