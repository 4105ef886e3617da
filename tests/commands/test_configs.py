"""The numbers of the protocol that the configs must hold (sections 5 to 7)."""

import pytest

from cnnpool.configs import cifar10, scale2d


def test_cifar10_paper_is_the_protocol():
    config = cifar10.get_config("paper")
    training = config.training
    assert (training.epochs, training.batch_size, training.cosine_period) == (250, 128, 0.8)
    assert (training.learning_rate, training.momentum, training.weight_decay) == (0.1, 0.9, 5e-4)
    assert (training.loss, training.optimizer, training.schedule) == (
        "cross_entropy",
        "sgd",
        "cosine",
    )
    assert training.warmup_epochs == 0
    assert training.clip_norm is None
    assert (config.data.train_size, config.data.test_size) == (0, 0)
    assert config.data.augmentation


def test_fully_connected_networks_take_adam_without_schedule_or_decay():
    training = cifar10.get_config("fully_connected").training
    assert (training.optimizer, training.learning_rate) == ("adam", 0.1)
    assert (training.schedule, training.weight_decay, training.epochs) == ("constant", 0.0, 250)


def test_scale2d_paper_is_the_protocol():
    config = scale2d.get_config("paper")
    training, data = config.training, config.data
    assert (data.size, data.scale, data.gap) == (28, 14, 2)
    assert (data.train_size, data.test_size) == (1024, 4096)
    assert (data.distance, data.periodic) == ("euclidean", False)
    assert (training.epochs, training.batch_size, training.cosine_period) == (300, 128, 0.8)
    assert (training.learning_rate, training.momentum, training.weight_decay) == (0.05, 0.9, 5e-4)
    assert (training.loss, training.optimizer, config.model.outputs) == ("hinge", "sgd", 1)


def test_cpu_preset_shortens_and_says_so():
    paper, cpu = cifar10.get_config("paper").to_dict(), cifar10.get_config("cpu").to_dict()
    changed = {key for key in paper["training"] if paper["training"][key] != cpu["training"][key]}
    assert changed == {"epochs", "weight_decay", "cosine_period", "warmup_epochs"}
    assert {k: v for k, v in paper.items() if k != "training"} == {
        k: v for k, v in cpu.items() if k != "training"
    }


def test_lenet_has_the_protocol_s_decay_when_shortened():
    cpu, lenet = cifar10.get_config("cpu").to_dict(), cifar10.get_config("lenet_cpu").to_dict()
    assert (lenet["model"]["name"], lenet["training"]["weight_decay"]) == ("lenet", 5e-4)
    changed = {key for key in cpu["training"] if cpu["training"][key] != lenet["training"][key]}
    assert changed == {"epochs", "weight_decay"}


@pytest.mark.parametrize("module", [cifar10, scale2d])
def test_unknown_presets_are_refused(module):
    with pytest.raises(ValueError, match="expected"):
        module.get_config("papper")
