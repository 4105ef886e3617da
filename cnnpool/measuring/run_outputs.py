"""Outputs of the networks of a run for a user's own images."""

from collections.abc import Sequence
import functools
from pathlib import Path

from flax.errors import FlaxError
import jax
import jax.numpy as jnp
import numpy as np

from cnnpool.data import image_arrays
from cnnpool.data.arrays import parts
from cnnpool.data.images import DataError
from cnnpool.devices import numerics
from cnnpool.devices.progress_bar import say
from cnnpool.measuring import network, runs
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.run import Run
from cnnpool.shapes import Float


def predict(
    workdir: Path,
    images: Path,
    *,
    stage: str = "trained",
    batch_size: int = 50,
    data_dir: str | None = None,
) -> Float[np.ndarray, "..."]:
    """Outputs of the networks of a run, a packed folder or an imported network.

    Args:
      workdir: the folder.
      images: an .npy file of (n, height, width, channels).
      stage: "init", "trained", "last" or an epoch.
      batch_size: images at once.
      data_dir: folder of the training data, instead of the config's `data.data_dir`.

    Raises:
      ValueError: if the network has no such stage, or JAX settings would change the numbers.
      CheckpointError, NetworkFolderError: if the networks are missing or damaged.
      DataError: if the images, or the data that normalizes them, are missing or damaged, or the
        images do not fit the network.
    """
    numerics.check_settings()
    runs.check_no_images(workdir, data_dir)
    run = runs.open_pictures(workdir, data_dir=data_dir)
    networks = run.networks(stage)
    given = image_arrays.open_stored(images, run.channels)
    stored = given.dtype == np.uint8
    if not stored:
        _check_normalized(given, images, run.pixel_mean)
        say(f"{images} holds floats: taken as normalized already")
    normalize = run.normalize if stored else functools.partial(jnp.asarray, dtype=jnp.float32)
    _check_image_size(run, networks[0], given, images)
    found = [
        network.outputs(run.model, one.variables, given, batch_size=batch_size, normalize=normalize)
        for one in networks
    ]
    return found[0] if len(found) == 1 else np.stack(found)


def _check_normalized(images: np.ndarray, path: Path, mean: Sequence[float]) -> None:
    """Raises DataError if floats seem not normalized by `mean`: none negative, or grey."""
    if not mean:
        return
    if images.shape[-1] != image_arrays.RGB:
        raise DataError(f"{path} holds grey floats; expected uint8, or normalized floats of RGB")
    if min(mean) > 0 and min(part.min() for part in parts(images)) >= 0:
        raise DataError(
            f"{path} holds floats, none of them negative: pixels, it seems. Expected uint8, or "
            "floats that are normalized already, (pixels from 0 to 1 - mean) / std"
        )


def _check_image_size(run: Run, one: NetworkAtStage, images: np.ndarray, path: Path) -> None:
    """Raises DataError if the network cannot take images of this size."""
    channels = run.channels[-1]
    shape = jax.ShapeDtypeStruct((1, *images.shape[1:3], channels), jnp.float32)
    try:
        jax.eval_shape(
            lambda image: run.model.apply(one.variables._asdict(), image, train=False), shape
        )
    except (FlaxError, TypeError) as error:
        raise DataError(
            f"{path} has shape {images.shape}; the network cannot take images of this size: "
            f"expected those that it was trained on ({type(error).__name__})"
        ) from error
