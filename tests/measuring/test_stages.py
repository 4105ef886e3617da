"""Which checkpoints stages mean."""

from unittest import mock

import pytest

from cnnpool.measuring import stages
from cnnpool.measuring.names import parse_stage, parse_stages
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore


def test_one_stage_is_one():
    assert parse_stage("12") == "12"
    for text in ("init,trained", "all"):
        with pytest.raises(ValueError, match=f"--stage={text}: expected one stage"):
            parse_stage(text)


def epochs_of(names, epochs):
    stage_names = parse_stages(names)
    store = mock.create_autospec(CheckpointStore, instance=True, epochs=epochs, directory="here")
    return stages.epochs_of(stage_names, store)


def test_all_is_every_epoch_that_is_kept_and_the_trained_networks():
    assert epochs_of("all", [0, 5, 30]) == {"init": 0, "5": 5, "30": 30, "trained": 30}
    assert epochs_of("trained,all", [0, 30]) == {"trained": 30, "init": 0, "30": 30}


def test_stages_by_name_and_number():
    assert epochs_of("init,5,last", [0, 5, 30]) == {"init": 0, "5": 5, "last": 30}


def test_what_is_not_there_is_an_error_that_says_what_is():
    with pytest.raises(CheckpointError, match=r"stage '7' is epoch 7, and here has \[0, 30\]"):
        epochs_of("7", [0, 30])
    with pytest.raises(CheckpointError, match="train first"):
        epochs_of("all", [])
