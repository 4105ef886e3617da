"""What is given and read by nothing is refused; the table of such fields is what code reads."""

import pytest

from cnnpool import models
from cnnpool.configs import arrays, cifar10, scale1d, scale2d
from cnnpool.launch.jobs import with_fields
from cnnpool.runs import unread_fields


@pytest.mark.parametrize("name", models.TRAINED_HERE)
def test_the_table_says_which_fields_of_a_model_are_read(name):
    config = with_fields(cifar10.get_config(), model__name=name)
    for field in config.model:
        needed = with_fields(config)
        with needed.unlocked():
            del needed.model[field]
        try:
            models.build(needed.model)
            read = False
        except (AttributeError, KeyError):
            read = True
        assert (f"model.{field}" in unread_fields.unread(config)) is not read, field


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (with_fields(cifar10.get_config(), training__optimizer="adam"), "training.momentum"),
        (cifar10.get_config("fully_connected"), "training.cosine_period"),
        (with_fields(arrays.get_config(), data__test_fraction=0.0), "data.seed"),
    ],
)
def test_fields_of_other_recipes_are_refused(config, field):
    with pytest.raises(ValueError, match=rf"^{field} is .*no effect with .*, only with .*Omit it"):
        unread_fields.check(config, ["seeds", field])
    unread_fields.check(config, ["seeds", "training.epochs"])


@pytest.mark.parametrize("config", [cifar10.get_config("paper"), scale2d.get_config()])
def test_what_the_protocol_reads_is_not_refused(config):
    unread_fields.check(config, ["training.momentum", "training.cosine_period", "data.seed"])


def test_simple_cnns_read_all_that_their_config_has():
    assert unread_fields.unread(scale1d.get_config()) == {}
