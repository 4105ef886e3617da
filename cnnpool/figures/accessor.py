"""`data.cnnpool` of measured datasets: figures and tables in one call.

It is there in every program that imports cnnpool and xarray (`cnnpool.figures.registration`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from cnnpool import extras

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    import pandas as pd


@xr.register_dataset_accessor("cnnpool")
class Measured:
    """What can be done with a dataset in the schema of result files."""

    def __init__(self, dataset: xr.Dataset):
        self._dataset = dataset

    def plot(
        self,
        quantities: str = "DGR",
        *,
        color: str = "",
        style: str = "",
        facet: str = "",
        select: Mapping[str, Any] | None = None,
        relative: bool = False,
        all_units: bool = False,
    ) -> "Figure":
        """D, G and R against depth, with error bars of one standard error.

        There is one curve per stage, transform, displacement, cut-off and kind of noise. Several
        networks are averaged, and the error is that of their mean; for a single network the error
        is over images. Random shuffles are averaged as logarithms, and the error includes their
        spread. Networks that are dead in a layer are left out there, and the legend says so:
        n = 2 of 4.

        Args:
          quantities: the quantities to plot, some of D, G and R.
          color: the dimension or coordinate shown by colour; "": everything that varies and is not
            shown by style or facet.
          style: the dimension or coordinate shown by line style.
          facet: the dimension or coordinate shown by rows of panels.
          select: {name: value, or sequence of values} of the curves that are wanted.
          relative: whether to plot against k/K.
          all_units: whether to plot all units, not only the last one of every layer.

        Raises:
          ValueError: if another quantity or an unknown name is asked for.
          MissingExtraError: if Matplotlib is not installed.
        """
        with extras.needed("figures"):
            from matplotlib import pyplot
            import matplotlib.style

            from cnnpool.figures import depth, networks
            from cnnpool.figures import style as looks

        wanted = {
            name: list(map(str, np.atleast_1d(values))) for name, values in (select or {}).items()
        }
        options = depth.Options(
            color, style, facet, wanted, {}, quantities, relative=relative, all_units=all_units
        )
        drawn = depth.of_networks(
            [networks.MeasuredNetwork(self._dataset, "this dataset")], options
        )
        with matplotlib.style.context(looks.RC, after_reset=False):
            return depth.draw(drawn, options, pyplot.figure)

    def table(self, *, all_units: bool = False) -> "pd.DataFrame":
        """D, G and R as a table, one row per layer: means over the networks that are alive there.

        Args:
          all_units: whether to list all units, not only the last one of every layer.

        Returns:
          Columns D, D_se, G, G_se, R, R_se and `networks`, "4" or "2 of 4" where some are dead;
          the index identifies the rows, with `layer` last.
        """
        with extras.needed("figures"):
            from cnnpool.figures import mean_table

        return mean_table.table(self._dataset, all_units=all_units)
