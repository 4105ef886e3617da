"""A grid of x, tau(x) and x + eta, for every displacement, cut-off and kind of noise.

One row for every image and displacement, columns by cut-off and noise. Below each stands how far it
is from x, and in brackets as a share of ||x||, in the units that a network is given: the noise has
the norm of the deformation's change.
"""

from collections.abc import Sequence
import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

from cnnpool.figures import picture_data
from cnnpool.files.atomic_write import write_atomically
from cnnpool.library.shown_images import Perturbed

COLUMNS = picture_data.PERTURBATIONS
_INCHES = 1.35  # of a picture


def draw(clean: np.ndarray, norms: np.ndarray, cells: Sequence[Perturbed]) -> Figure:
    """Draws the grid.

    Args:
      clean: x, (images, rows, columns, channels), 0 to 1.
      norms: ||x||, (images,).
      cells: what was made of them.
    """
    deltas = list(dict.fromkeys(cell.words.get("delta") for cell in cells))
    columns = list(dict.fromkeys(_column(cell) for cell in cells))
    by_cutoff = [
        [one for one in columns if one[0] == c] for c in dict.fromkeys(c for c, _ in columns)
    ]
    kinds = [(cutoff, None) for cutoff, _ in (group[0] for group in by_cutoff)]
    order = [
        place for head, group in zip(kinds, by_cutoff, strict=True) for place in (head, *group)
    ]
    rows = [(image, delta) for image in range(len(clean)) for delta in deltas]
    figure = Figure(
        figsize=(_INCHES * (len(order) + 1) + 0.4, (_INCHES + 0.22) * len(rows) + 0.35),
        layout="constrained",
    )
    grid = figure.subplots(len(rows), len(order) + 1, squeeze=False)
    found = {(cell.words.get("delta"), *_column(cell)): cell for cell in cells}
    for (image, delta), axes in zip(rows, grid, strict=True):
        _picture(axes[0], clean[image], "" if delta is None else f"$\\delta$ = {delta:g}")
        for place, one in zip(order, axes[1:], strict=True):
            cutoff, kind = place
            deformation = kind is None
            cell = next(
                c
                for (d, *column), c in found.items()
                if d == delta and column[0] == cutoff and (deformation or column[1] == kind)
            )
            picture = cell.deformed if deformation else cell.noisy
            size = (cell.change if deformation else cell.noise)[image]
            _picture(one, picture[image])
            doubt = "" if cell.natural or not deformation else ", not natural"
            share = f" ({size / norms[image]:.0%})" if norms[image] else ""
            one.set_xlabel(f"{size:.3g}{share}{doubt}", fontsize=6.5, labelpad=2)
    grid[0][0].set_title("$x$", fontsize=8)
    for place, axes in zip(order, grid[0][1:], strict=True):
        axes.set_title(_title(place), fontsize=8)
    return figure


def _column(cell: Perturbed) -> tuple[int | None, str]:
    return cell.words.get("cutoff"), cell.words.get("noise", "own")


def _title(place: tuple[int | None, str | None]) -> str:
    cutoff, kind = place
    of = "" if cutoff is None else f", $c$ = {cutoff}"
    if kind is None:
        return f"$\\tau(x)${of}"
    return f"$x + \\eta${'' if kind in ('white', 'own') else f', {kind}'}"


def _picture(axes: Axes, pixels: np.ndarray, label: str = "") -> None:
    gray = pixels.shape[-1] == 1
    shown = pixels[..., 0] if gray else pixels
    axes.imshow(shown, cmap="gray" if gray else None, vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if label:
        axes.set_ylabel(label, fontsize=8)


def write_csv(path: Path, norms: np.ndarray, cells: Sequence[Perturbed]) -> None:
    """Writes all norms, one line per image and kind of perturbation."""

    def write(beside: Path) -> None:
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for cell in cells:
                words = [cell.words.get(name, "") for name in ("delta", "cutoff", "noise")]
                for image, norm in enumerate(norms):
                    sizes = (norm, cell.change[image], cell.noise[image])
                    writer.writerow([image, *words, *(f"{size:.8g}" for size in sizes)])

    write_atomically(path, write)
