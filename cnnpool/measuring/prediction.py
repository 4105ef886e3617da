"""Outputs of one deep network for images, a batch at a time."""

from collections.abc import Callable
import functools
import sys
from typing import Any

import jax
from jax import Array
from jaxtyping import Float, Shaped
import numpy as np
from tqdm import tqdm

from cnnpool.devices import runtime
from cnnpool.training.image_step import Variables

Normalize = Callable[[np.ndarray], Array]


def predict(
    model: Any,
    variables: Variables,
    images: Shaped[Array | np.ndarray, "images height width channels"],
    *,
    batch_size: int,
    normalize: Normalize,
) -> Float[np.ndarray, "images outputs"]:
    """Outputs in inference mode, with a progress bar.

    Args:
      model: of the network.
      variables: of one network.
      images: as stored; they may lie on the disk.
      batch_size: images at once.
      normalize: a batch of them.
    """
    batch_size = min(batch_size, len(images))
    found = []
    with tqdm(
        total=len(images), desc="predicting", unit="image", disable=not sys.stderr.isatty()
    ) as bar:
        for start in range(0, len(images), batch_size):
            batch = np.asarray(images[start : start + batch_size])
            # Filled up, so that one program does for all.
            full = np.pad(batch, ((0, batch_size - len(batch)), (0, 0), (0, 0), (0, 0)))
            outputs = _apply(variables, normalize(full), model=model, options=_options())
            found.append(np.asarray(outputs)[: len(batch)])
            bar.update(len(batch))
    return np.concatenate(found)


def _options() -> tuple[tuple[str, str], ...]:
    return tuple(runtime.with_barriers(jax.devices()[0].platform).items())


def _apply(variables: Variables, images: Array, *, model: Any, options: tuple) -> Array:
    # Accelerators would round factors to TF32 or bfloat16.
    with jax.default_matmul_precision("highest"):
        return _compiled(model, options)(variables, images)


@functools.lru_cache(maxsize=4)
def _compiled(model: Any, options: tuple):
    return jax.jit(
        lambda variables, images: model.apply(variables._asdict(), images, train=False)[0],
        compiler_options=dict(options) or None,
    )
