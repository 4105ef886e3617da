"""Outputs of the networks of a run for a user's own images."""

from collections.abc import Sequence
import functools
from pathlib import Path
import sys
from typing import Any, NamedTuple

from flax.errors import FlaxError
import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from ml_collections import ConfigDict
import numpy as np
from tqdm import tqdm

from cnnpool import models
from cnnpool.data import image_arrays
from cnnpool.data.arrays import parts
from cnnpool.data.images import DataError, standardize
from cnnpool.devices import numerics
from cnnpool.errors import refuse_unknown
from cnnpool.importing.folder import is_imported, refuse_data_dir
from cnnpool.measuring import image_run, imported_run, prediction
from cnnpool.measuring.names import TRAINED
from cnnpool.measuring.prediction import Normalize
from cnnpool.runs import run_config
from cnnpool.training.image_step import Variables


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
      data_dir: of the training data, instead of the config's `data.data_dir`.

    Raises:
      ValueError: if the network has no such stage, or JAX is set so that other numbers would come
        out.
      CheckpointError, PackedError, ImportedError: if the networks are absent or damaged.
      DataError: if the images, or the data that normalizes them, are absent or damaged, or the
        images do not fit the network.
    """
    numerics.refuse_others()
    refuse_data_dir(workdir, data_dir)
    config = run_config.load(workdir, data_dir=data_dir)
    if not run_config.is_deep(config):
        raise ValueError(f"{workdir} is a run on {config.data.name}; expected deep networks")
    opened = _open(workdir, config, stage)
    given = image_arrays.open_stored(images, opened.channels)
    stored = given.dtype == np.uint8
    if not stored and is_imported(workdir):
        _refuse_pixels(given, images, config.data.mean)
    if not stored:
        tqdm.write(f"{images} holds floats: taken as normalized already", file=sys.stderr)
    normalize = opened.normalize if stored else functools.partial(jnp.asarray, dtype=jnp.float32)
    _refuse_misfit(opened, given, images)
    found = [
        prediction.predict(opened.model, one, given, batch_size=batch_size, normalize=normalize)
        for one in opened.networks
    ]
    return found[0] if len(found) == 1 else np.stack(found)


class _Opened(NamedTuple):
    """Model, networks, what normalizes stored images, and how many channels these may have."""

    model: Any
    networks: list[Variables]
    normalize: Normalize
    channels: tuple[int, ...]


def _open(workdir: Path, config: ConfigDict, stage: str) -> _Opened:
    if is_imported(workdir):
        refuse_unknown(stage, [TRAINED], "the stage of an imported network")
        model, variables = imported_run.load(workdir, config)
        mean, std = config.data.mean, config.data.std

        def rgb(images: np.ndarray) -> Array:
            return standardize(jnp.asarray(image_arrays.as_rgb(images)), mean, std)

        return _Opened(model, [variables], rgb, (1, image_arrays.RGB))
    training = image_run.open_training(config, image_noise=False)
    state = image_run.load_stages(workdir, config, [stage], training=training)[stage]
    held = jax.device_get(state.params)
    networks = [
        jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), held)
        for row in range(len(config.seeds))
    ]
    return _Opened(
        models.build(config.model),
        networks,
        lambda images: training.data.normalize(jax.random.key(0), jnp.asarray(images)),
        (training.data.test.images.shape[-1],),
    )


def _refuse_pixels(images: np.ndarray, path: Path, mean: Sequence[float]) -> None:
    """Raises DataError where floats cannot be normalized images: they are dark nowhere, or grey."""
    if images.shape[-1] != image_arrays.RGB:
        raise DataError(f"{path} holds grey floats; expected uint8, or normalized floats of RGB")
    if min(mean) > 0 and min(part.min() for part in parts(images)) >= 0:
        raise DataError(
            f"{path} holds floats, none of them negative: pixels, it seems. Expected uint8, or "
            "floats that are normalized already, (pixels from 0 to 1 - mean) / std"
        )


def _refuse_misfit(opened: _Opened, images: np.ndarray, path: Path) -> None:
    """Raises DataError where images have a size that the network cannot take."""
    channels = opened.channels[-1]
    one = jax.ShapeDtypeStruct((1, *images.shape[1:3], channels), jnp.float32)
    try:
        jax.eval_shape(
            lambda image: opened.model.apply(opened.networks[0]._asdict(), image, train=False), one
        )
    except (FlaxError, TypeError) as error:
        raise DataError(
            f"{path} has shape {images.shape}; the network cannot take images of this size: "
            f"expected those that it was trained on ({type(error).__name__})"
        ) from error
