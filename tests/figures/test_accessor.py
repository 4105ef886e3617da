"""`data.cnnpool` is there whoever read the data, and its table says how many networks live."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from cnnpool.files import results
from tests import classifier_results

ORDERS = {
    "xarray first": "import xarray, cnnpool",
    "cnnpool first": "import cnnpool, xarray",
    "a command's import": "import cnnpool.errors, xarray",
}


@pytest.mark.parametrize("imports", ORDERS.values(), ids=ORDERS)
def test_it_is_there_after_a_plain_read_in_any_order_of_imports(imports, tmp_path):
    results.write(tmp_path / "a.nc", classifier_results.network("lenet"))
    program = (
        f"{imports}, sys\n"
        "assert not any(n.startswith(('jax', 'matplotlib')) for n in sys.modules)\n"
        f"data = xarray.open_dataset({str(tmp_path / 'a.nc')!r}, engine='h5netcdf')\n"
        "print(data.cnnpool.table().loc[('trained', 'none')].networks.iloc[0])\n"
        "assert xarray.__spec__.loader.__class__.__name__ == 'SourceFileLoader'\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "3\n"


def test_the_table_is_of_the_networks_that_live():
    data = classifier_results.network("lenet", seeds=4)
    for name in ("D", "G", "R"):
        data[name].loc[{"seed": [1, 3], "layer": "relu03"}] = np.nan
    data["R"].loc[{"layer": "linear05"}] = np.nan
    table = data.cnnpool.table().loc[("trained", "none")].droplevel(["delta", "cutoff", "noise"])
    assert list(table.columns) == [*("depth", "D", "D_se", "G", "G_se", "R", "R_se"), "networks"]
    assert list(table["networks"]) == ["4", "4", "2 of 4", "4", "0 of 4"]
    alive = data["R"].sel(stage="trained", transform="none", layer="relu03", shuffle=0, seed=[0, 2])
    values = alive.squeeze().values
    assert table.loc["relu03", "R"] == pytest.approx(values.mean())
    assert table.loc["relu03", "R_se"] == pytest.approx(values.std(ddof=1) / np.sqrt(2))
    assert np.isnan(table.loc["linear05", "R"])
    assert np.isfinite(table.loc["linear05", "D"])


def test_all_units_are_there_on_request():
    data = classifier_results.network("lenet")
    few, every = data.cnnpool.table(), data.cnnpool.table(all_units=True)
    assert len(every) / len(few) == data.sizes["layer"] / 5
    assert "relu01" in every.index.get_level_values("layer")


def test_the_table_of_one_network_alone():
    data = classifier_results.network("lenet", seeds=3)
    one = data.isel(seed=1).cnnpool.table()
    pd.testing.assert_frame_equal(one, data.isel(seed=[1]).cnnpool.table())
