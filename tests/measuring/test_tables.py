"""The table of eval: the last unit of every layer, or all units on request."""

from cnnpool.measuring import tables
from tests import classifier_results


def test_all_units_on_request():
    data = classifier_results.network("lenet", stages=["trained"], transforms=["none"])
    few, every = tables.layer_table(data), tables.layer_table(data, all_units=True)
    assert [line.split()[0] for line in few.splitlines()[2:]] == [
        *("pool01", "pool02", "relu03", "relu04", "linear05")
    ]
    listed = [line.split()[0] for line in every.splitlines()[2:]]
    assert listed == list(data["layer"].values)
