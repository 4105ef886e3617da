"""Named activations out of whatever a network returns."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
import difflib
import fnmatch
from typing import Any

import numpy as np

Layers = Sequence[str] | None
_FEW = 4  # images that a network is given again, at other places of a different batch
# In float32 a network of many layers rounds its activations by 1e-5, in a GPU's TF32 by 1e-3.
_SAME = 1e-2


def flattened(found: Any) -> dict[str, Any]:
    """Activations by name; nested dicts, tuples and lists by path: "block1/conv", "pair/0".

    Args:
      found: what a function returned.

    Raises:
      TypeError: if it is not a dict, so that activations have no names.
    """
    if not isinstance(found, Mapping) or not found:
        kind = type(found).__name__ if not isinstance(found, Mapping) else "an empty dict"
        raise TypeError(
            "no named activations: expected a function from images to {layer: activations}, got "
            f"{kind}. Return a dict, lambda x: {{'output': network(x)}}; of a module of PyTorch or "
            "Flax, cnnpool.torch.features and cnnpool.flax.features name the layers"
        )
    return dict(_leaves("", found))


def _leaves(path: str, found: Any) -> Iterable[tuple[str, Any]]:
    parts: Iterable[tuple[Any, Any]]
    if isinstance(found, Mapping):
        parts = found.items()
    elif isinstance(found, tuple | list):
        parts = enumerate(found)
    else:
        if found is not None:
            yield path, found
        return
    for name, part in parts:
        yield from _leaves(f"{path}/{name}" if path else str(name), part)


def chosen(names: Collection[str], layers: Layers) -> list[str]:
    """The names that are asked for, in their own order; all where nothing is.

    Args:
      names: the existing names, in forward order.
      layers: names or patterns, "layer1.*", of which each has to match something.

    Raises:
      ValueError: naming what matches nothing, and the nearest names.
    """
    if layers is None:
        return list(names)
    if isinstance(layers, str):
        layers = [layers]
    for layer in layers:
        if not fnmatch.filter(names, layer):
            near = difflib.get_close_matches(layer, names, cutoff=0.3)
            nearest = (
                f"the nearest are {', '.join(near)}" if near else f"there are {_listed(names)}"
            )
            raise ValueError(f"layers: {layer!r} matches no layer; {nearest}")
    return [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in layers)]


def _listed(names: Collection[str], most: int = 8) -> str:
    shown = ", ".join(list(names)[:most])
    return f"{shown}{', ...' if len(names) > most else ''}"


def check_independent(call: Callable[[np.ndarray], Mapping[str, Any]], images: Any) -> None:
    """Refuses a network whose output for an image depends on the other images, or on chance.

    Such a network is in training mode: batch normalization uses the statistics of the batch, or
    dropout is on. Two images are evaluated again at other positions of a different batch.

    Args:
      call: images (batch, ...) -> named activations.
      images: the images, of which a few are used.

    Raises:
      ValueError: naming the layers.
    """
    row = np.arange(min(len(images), _FEW))
    other = np.array([1, 0] * 2)[: len(row)]
    images = np.asarray(images[: len(row)])
    first, second = call(images[row]), call(images[other])
    differing = [name for name in first if _differ(first[name], second[name])]
    if differing:
        raise ValueError(
            f"the same image gives other activations in another batch, in {_listed(differing)}. Is "
            "the network in training mode? Expected inference: module.eval() in PyTorch, "
            "use_running_average=True and deterministic=True in Flax, training=False in Keras; and "
            "every row of the activations of its own image alone"
        )


def _differ(first: Any, second: Any) -> bool:
    """Whether rows 0 and 1 of the one are not rows 1 and 0 of the other."""
    a, b = np.asarray(first, np.float32), np.asarray(second, np.float32)
    if a.ndim < 1 or a.shape != b.shape or len(a) < 2:
        return False  # said by who streams them
    a, b = a[:2], b[1::-1]
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    return bool(np.linalg.norm(a - b) > _SAME * np.linalg.norm(a))
