"""Names and units of result files, and a depth of all units."""

from pathlib import Path

from matplotlib import pyplot
import numpy as np
import pytest
import xarray as xr

from cnnpool.files import results, schema
from tests import classifier_results
from tests.paths import ROOT

STORED = [
    *("results/fig4/fig4.nc", "results/networks/cifar10-lenet-deltas.nc"),  # a ring; natural images
    *("results/networks/cifar10-alexnet-cpu-jpeg.nc", "results/networks/scale2d-lenet.nc"),
]


@pytest.mark.parametrize("file", STORED)
def test_all_that_stored_files_hold_has_a_name_and_a_unit(file):
    for network in results.read_networks(Path(ROOT, file)).values():
        lacking = [
            name
            for name, variable in network.variables.items()
            if not variable.attrs.get("long_name") or "units" not in variable.attrs
        ]
        assert lacking == []


def test_names_are_written_and_a_name_of_one_s_own_stays(tmp_path):
    data = classifier_results.network("lenet")
    data["R"].attrs["long_name"] = "mine"
    results.write(tmp_path / "a.nc", data)
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as found:
        assert found["R"].attrs == {"long_name": "mine", "units": "1"}
        assert found["delta"].attrs == {"long_name": "nominal displacement", "units": "pixels"}
        assert found["stage"].attrs == {"long_name": "stage of training", "units": ""}
        assert "layer_depth" in found.coords
    assert "units" not in data["D"].attrs, "what was given is left as it was"


def test_units_without_weights_have_the_depth_of_their_layer():
    nan = np.nan
    depth = schema.layer_depth(np.array([nan, nan, 1, nan, 2, nan]))
    np.testing.assert_array_equal(depth, [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(schema.layer_depth(np.array([nan, nan])), [1, 2])


def test_a_bare_plot_of_all_units_has_labels_and_no_gaps():
    data = schema.labelled(classifier_results.network("lenet"))
    curve = data.R.isel(seed=0, shuffle=0).sel(stage="trained", transform="none").squeeze()
    (line,) = curve.plot(x="layer_depth")
    assert np.isfinite(line.get_xdata()).all()
    assert len(line.get_xdata()) == data.sizes["layer"] > data["depth"].count()
    assert line.axes.get_xlabel() == "depth k of a unit's layer [1]"
    assert line.axes.get_ylabel().replace("\n", " ") == "relative sensitivity R = D / G [1]"
    pyplot.close()
