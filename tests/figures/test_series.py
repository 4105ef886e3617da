"""Averages over seeds, and the table of a figure's curves."""

import csv

import numpy as np
import xarray as xr

from cnnpool.figures import seed_average
from cnnpool.figures.series import COLUMNS, Series, write_csv


def cell(values, *, se=0.5, spread=None):
    """A dataset over (seed, layer)."""
    array = np.array(values, float)
    variables = {
        "R": (("seed", "layer"), array),
        "R_se": (("seed", "layer"), np.full_like(array, se)),
    }
    if spread is not None:
        variables["R_shuffle_sd"] = (("seed", "layer"), np.broadcast_to(spread, array.shape))
    return xr.Dataset(variables)


def test_several_seeds_have_the_error_of_their_mean():
    found = seed_average.over_seeds(cell([[1, 10], [2, 20], [6, 30]]), "R")
    np.testing.assert_allclose(found.mean, [3, 20])
    np.testing.assert_allclose(found.se, [np.sqrt(7 / 3), 10 / np.sqrt(3)])
    np.testing.assert_array_equal(found.seeds, [3, 3])


def test_one_seed_has_its_error_over_images():
    found = seed_average.over_seeds(cell([[1, 10]], se=0.25), "R")
    np.testing.assert_allclose(found.se, [0.25, 0.25])
    without = seed_average.over_seeds(cell([[1, 10]]).drop_vars("R_se"), "R")
    assert np.isnan(without.se).all()


def test_the_spread_over_shuffles_is_added_in_quadrature():
    one = seed_average.over_seeds(cell([[1.0]], se=3.0, spread=4.0), "R")
    np.testing.assert_allclose(one.se, [5.0])
    two = seed_average.over_seeds(cell([[1.0], [7.0]], spread=[[4.0], [0.0]]), "R")
    np.testing.assert_allclose(two.se, [np.sqrt(9 + (16 + 0) / 4)])
    not_shuffled = seed_average.over_seeds(cell([[1.0], [7.0]], spread=np.nan), "R")
    np.testing.assert_allclose(not_shuffled.se, [3.0])


def test_dead_networks_are_left_out_and_counted():
    found = seed_average.over_seeds(cell([[1, np.nan, np.nan], [3, 5, np.inf]]), "R")
    np.testing.assert_array_equal(found.mean, [2, 5, np.nan])
    np.testing.assert_allclose(found.se, [1, 0.5, np.nan])
    np.testing.assert_array_equal(found.seeds, [2, 1, 0])


def test_only_seeds_in_which_all_is_finite_are_kept():
    given = cell([[1, 10], [2, np.nan], [3, 30], [4, 40]])
    given["G"] = given["R"].transpose("layer", "seed") * 0 + 1
    given["error"] = ("seed", [0.1, 0.2, np.inf, 0.4])
    np.testing.assert_array_equal(
        seed_average.where_finite(given, ["R", "G", "error"])["R"], [[1, 10], [4, 40]]
    )
    assert seed_average.where_finite(given, ["error"])["error"].values.tolist() == [0.1, 0.2, 0.4]
    none = seed_average.where_finite(given.assign(R=given["R"] * np.nan), ["R", "error"])
    found = seed_average.over_seeds(none, "error")
    assert (np.isnan(found.mean), np.isnan(found.se), found.seeds) == (True, True, 0)


def test_the_axis_of_seeds_may_lie_anywhere():
    dataset = cell([[1, 10], [3, 20]]).transpose("layer", "seed")
    np.testing.assert_array_equal(seed_average.over_seeds(dataset, "R").mean, [2, 15])


def test_the_table_has_a_line_a_point_and_empty_cells_for_what_is_unknown(tmp_path):
    full = Series(
        ("row", "$k$ = 1"),
        "trained",
        "vgg11",
        "noise 10",
        "cifar10",
        x=np.array([0.123456, 1]),
        y=np.array([1e-9, np.nan]),
        x_se=np.array([0.1, 0.2]),
        y_se=np.array([np.nan, 0.3]),
        seeds=np.array([5, 4]),
        points=("a", "b"),
        epochs=30,
    )
    bare = Series(("", ""), "c", "m", "", "d", x=np.array([1.0]), y=np.array([2.0]))
    write_csv(tmp_path / "new" / "a.csv", "fig2", [full, bare])
    with (tmp_path / "new" / "a.csv").open() as file:
        rows = list(csv.reader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [",".join(row[:1] + row[2:]) for row in rows[1:]] == [
        "fig2,trained,vgg11, noise 10,cifar10,30,a,0.123456,1e-09,0.1,,5",
        "fig2,trained,vgg11, noise 10,cifar10,30,b,1,,0.2,0.3,4",
        "fig2,c,m,d,,,1,2,,,",
    ]
    assert [row[1] for row in rows[1:]] == ["row, k = 1", "row, k = 1", ""]
