"""The moments from which D, G and R of a network's layers are computed, streamed over images.

For any function from images to named activations, whether a network or not:

    moments = image_moments(features, clean, deformed, noisy)

Memory holds only two means per layer, and three numbers and about `SKETCH` projections per image
and layer (`cnnpool.instruments.layer_sums`), however many images there are.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding
import numpy as np

from cnnpool.devices import global_arrays
from cnnpool.instruments.activations import Features, units_of
from cnnpool.instruments.batch_plan import plan_of
from cnnpool.instruments.moment_programs import INPUTS, PRECISION, layer_shapes, nothing, programs
from cnnpool.shapes import Float

Images = Array | np.ndarray


class ImageMoments(NamedTuple):
    """What the sensitivities of one layer are computed from, image by image.

    Attributes:
      deformation: mean over draws of ||f(tau(x_i)) - f(x_i)||^2.
      noise: mean over draws of ||f(x_i + eta) - f(x_i)||^2.
      spread: ||f(x_i) - m||^2, m the mean of f over the images.
      center: ||m||^2.
    """

    deformation: Float[np.ndarray, " images"]
    noise: Float[np.ndarray, " images"]
    spread: Float[np.ndarray, " images"]
    center: float


Moments = dict[str, ImageMoments]  # of every layer, in forward order


def image_moments(
    features: Features,
    clean: Float[Array, "images *shape"],
    deformed: Float[Array, "..."],
    noisy: Float[Array, "..."],
    *,
    batch_size: int = 0,
    mesh: Mesh | None = None,
    on_batch: Callable[[int], Any] | None = None,
) -> dict[str, ImageMoments]:
    """Streams all images through `features` once and keeps their moments.

    E||f||^2 - ||E f||^2 cancels in float32, so everything is relative to a reference r, the mean
    activation of the first batch: with g = f - r and its mean c over all images, the spread
    ||f_i - m||^2 is ||g_i||^2 - 2 g_i.c + ||c||^2. The middle term needs the mean before it
    is known. Its sum over images is exact, and so are D, G and R; for single images it is
    estimated from `SKETCH` random projections of g if a layer has more activations than that. It
    is small, as |c| is |g| / sqrt(batch), and the estimate is unbiased with an error of
    |g| |c| / 32: with 25 images per batch, standard errors are accurate to one percent.

    One call of the compiled program handles a few batches, some seconds of work on a CPU, so that
    progress can be shown and Ctrl-C obeyed; the sums stay on the devices until the end. With a
    mesh, devices communicate only the first batch's means, and sums at the end.

    Args:
      features: images (batch, *shape) -> activations {layer: (batch, ...)}, some of which may be
        `Rescaled` from others. It is called with all copies of a batch (clean, deformed and noisy)
        concatenated along the first axis. Pass
        large parameters as `jax.tree_util.Partial(apply, params)`, so that networks of
        the same shape share a compiled program.
      clean: x.
      deformed: tau(x), (draws, images, *shape), one or more draws of each image.
      noisy: x + eta, likewise, perhaps with another number of draws.
      batch_size: how many images, deformed and noisy copies included, have their activations in a
        device's memory at once; 0: as many as fit in a gigabyte, on a CPU at most 75 and one
        gigabyte for all its devices.
      mesh: a mesh with the axis `data`, over which the images are sharded; None: one device.
      on_batch: called after every call of the compiled program, with its number of images.

    Returns:
      The moments of each layer, in the order in which `features` names them.

    Raises:
      ValueError: if shapes disagree or there are fewer than two images.
      TypeError: if `features` does not return named activations, one per image.
    """
    check_inputs(clean, deformed, noisy, batch_size)
    if not isinstance(features, jax.tree_util.Partial):
        features = jax.tree_util.Partial(features)
    plan = plan_of(features, clean, deformed, noisy, batch_size=batch_size, mesh=mesh)
    images, devices = len(clean), 1 if mesh is None else mesh.size
    # If the images do not divide evenly among the devices, the last is repeated with weight 0.
    number = np.arange(plan.share * devices)
    weights = (number < images).astype(np.float32)
    if plan.share * devices > images:
        index = np.minimum(number, images - 1)
        clean, deformed, noisy = clean[index], deformed[:, index], noisy[:, index]
    inputs = _placed((features, clean, deformed, noisy, weights), INPUTS[:-2], mesh)
    layers = nothing(layer_shapes(plan.activations), plan.rows, mesh)()
    steps, finish = programs(mesh, plan.size)
    with jax.default_matmul_precision(PRECISION):
        for start in range(0, plan.share, plan.at_once):
            end = min(start + plan.at_once, plan.share)
            layers = steps(layers, *inputs, start, end)
            if on_batch:
                jax.block_until_ready(layers)
                on_batch(min(images, end * devices) - min(images, start * devices))
        found = global_arrays.fetch(finish(layers, inputs[-1]))
    return by_unit(found, plan.activations, images)


def check_inputs(clean: Images, deformed: Images, noisy: Images, batch_size: int) -> None:
    """Raises ValueError if shapes disagree or there are fewer than two images."""
    for name, array in (("deformed", deformed), ("noisy", noisy)):
        if array.shape[1:] != clean.shape or not len(array):
            raise ValueError(
                f"{name} has shape {array.shape}; expected (draws, *{clean.shape}), draws >= 1"
            )
    if len(clean) < 2 or batch_size < 0:
        raise ValueError(
            f"expected at least 2 images and a batch size of at least 1, or 0 for a fitting one; "
            f"got {len(clean)} and {batch_size}"
        )


def _placed(values: Any, specs: Any, mesh: Mesh | None) -> Any:
    """A tuple placed on the devices of a mesh, each element by its spec."""
    if mesh is None:
        return values
    return tuple(
        global_arrays.place(value, NamedSharding(mesh, spec))
        for value, spec in zip(values, specs, strict=True)
    )


def by_unit(
    found: tuple[np.ndarray, np.ndarray], activations: Mapping[str, Any], images: int
) -> dict[str, ImageMoments]:
    """The final program's results by unit, in forward order.

    Args:
      found: rows (units, 3, images or more) and centers (units,), units sorted by layer name.
      activations: shapes of arrays, or `Rescaled` activations, by unit.
      images: number of images.
    """
    units = units_of(activations)
    place = {unit: row for row, unit in enumerate(u for name in sorted(units) for u in units[name])}
    rows, centers = found[0][..., :images].astype(np.float64), found[1]
    moments = {}
    for name in activations:
        deformation, noise, spread = rows[place[name]]
        moments[name] = ImageMoments(deformation, noise, spread, float(centers[place[name]]))
    return moments
