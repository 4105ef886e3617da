"""`data.cnnpool` of measured datasets: figures in one call."""

from typing import TYPE_CHECKING

import xarray as xr

from cnnpool import extras

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCESSOR = "cnnpool"


@xr.register_dataset_accessor(ACCESSOR)
class Measured:
    """What can be done with a dataset in the schema of result files."""

    def __init__(self, dataset: xr.Dataset):
        self._dataset = dataset

    def plot(self, quantities: str = "DGR") -> "Figure":
        """D, G and R against depth, with error bars of one standard error.

        A curve for every stage, transform, displacement, cut-off and kind of noise. Of several
        networks it is the mean over them and its error, of one network the error is over images;
        of random shuffles it is the mean of the logarithms, and their spread is in the error.

        Args:
          quantities: of D, G and R.

        Raises:
          ValueError: if another quantity is asked for.
          MissingExtraError: if Matplotlib is not installed.
        """
        if not quantities or not set(quantities) <= set("DGR"):
            raise ValueError(f"expected some of D, G and R, got {quantities!r}")
        with extras.needed("figures"):
            from cnnpool.library import depth_plot
        return depth_plot.draw(self._dataset, quantities)
