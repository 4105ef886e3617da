"""Images and what was made of them, as pictures; for figures, which import no JAX."""

from typing import Any, NamedTuple

import numpy as np


class Perturbed(NamedTuple):
    """Images under one diffeomorphism and one kind of noise.

    Attributes:
      words: which they are: {"delta": 1.0, "cutoff": 3, "noise": "white"}; empty for a data set's
        own perturbations.
      natural: whether the diffeomorphism is; True of a data set's own.
      deformed: tau(x), (images, rows, columns, channels), as pictures, 0 to 1.
      noisy: x + eta, likewise.
      change: ||tau(x) - x||, (images,), in the units that a network is given.
      noise: ||eta||, likewise.
    """

    words: dict[str, Any]
    natural: bool
    deformed: np.ndarray
    noisy: np.ndarray
    change: np.ndarray
    noise: np.ndarray


class Shown(NamedTuple):
    """Images and all that was made of them.

    Attributes:
      clean: x, (images, rows, columns, channels), as pictures, 0 to 1.
      norms: ||x||, (images,), in the units that a network is given.
      cells: one for every diffeomorphism and kind of noise.
      source: where the images come from.
    """

    clean: np.ndarray
    norms: np.ndarray
    cells: list[Perturbed]
    source: str
