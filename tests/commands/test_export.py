"""cnnpool.export writes what its name says, and tables that say how many networks live."""

import numpy as np
import pandas as pd
import pytest

from cnnpool import export
from cnnpool.files import results
from tests import classifier_results


@pytest.fixture
def file(tmp_path):
    data = classifier_results.network("lenet", seeds=4)
    data["R"].loc[{"seed": [0, 1], "layer": "pool02"}] = np.nan
    results.write(tmp_path / "a.nc", data)
    return tmp_path / "a.nc"


def test_means_over_the_networks_that_live(file):
    out = file.with_name("means.csv")
    export.main([str(file), f"--out={out}", "--mean"])
    table = pd.read_csv(out).query("stage == 'trained' and transform == 'none'").set_index("layer")
    assert list(table.index) == ["pool01", "pool02", "relu03", "relu04", "linear05"]
    assert list(table["networks"]) == ["4", "2 of 4", "4", "4", "4"]
    # Seeds 2 and 3 of 4 are 1.05 and 1.15 times 10^(-1.5 * 2 / 5).
    assert table.loc["pool02", "R"] == pytest.approx(1.1 * 10**-0.6)
    assert table.loc["pool02", "R_se"] == pytest.approx(0.05 * 10**-0.6)


def test_all_units_of_several_networks(file, tmp_path):
    data = results.read(file)
    results.write(tmp_path / "b.nc", {"x": data, "y": data})
    out = tmp_path / "means.parquet"
    export.main([str(tmp_path / "b.nc"), f"--out={out}", "--mean", "--all_units"])
    table = pd.read_parquet(out)
    assert set(table["network"]) == {"x", "y"}
    assert set(table["layer"]) == set(data["layer"].values)


def test_each_number_is_in_one_row_and_filters_have_columns(file):
    data, out = results.read(file), file.with_name("all.csv")
    export.main([str(file), f"--out={out}"])
    table = pd.read_csv(out)
    for name in "DGR":
        assert table[name].count() == data[name].count()
    place = {"seed": 1, "stage": "trained", "layer": "conv02", "frequency": 7}
    row = table.query("seed == 1 and stage == 'trained' and layer == 'conv02'").iloc[0]
    for name in ("gamma", "gamma_se"):
        assert row[f"{name}_7"] == pytest.approx(float(data[name].sel(place)))


def test_the_ending_of_the_name_is_the_format(file):
    out = file.with_name("b.npz")
    export.main([str(file), f"--out={out}"])
    with np.load(out, allow_pickle=False) as arrays:
        assert "R" in arrays.files


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--to=npz", "--out=a.csv"], "--out=a.csv ends in .csv, but --to=npz"),
        (["--out=a.nc"], "suffix csv, npz, parquet; got --out=a.nc"),
        ([], "expected --to, or --out"),
        (["--to=npz", "--mean"], "--mean writes a table"),
        (["--to=csv", "--all_units"], "--all_units requires --mean"),
    ],
)
def test_what_would_write_something_else_is_refused(file, flags, message, capsys):
    with pytest.raises(SystemExit):
        export.main([str(file), *flags])
    assert message in capsys.readouterr().err
    assert [path.name for path in file.parent.iterdir()] == ["a.nc"]
