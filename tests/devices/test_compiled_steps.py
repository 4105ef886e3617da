"""The best mesh for some networks, chosen from rows of compiled steps."""

import pytest

from benchmarks import compiled_steps

ALONE = {"bound": 3e-3, "products": 2e-3, "collectives": "none"}
SHARED = {"bound": 1e-3, "products": 5e-4, "collectives": "8 all-gather, 10 all-reduce"}


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    kept = {"vgg11_bn cifar10 8x1": ALONE, "vgg11_bn cifar10 1x8": SHARED}
    monkeypatch.setattr(compiled_steps, "kept", lambda: kept)


# One network: 1 ms and 18 latencies, or 3 ms on a chip; five: 5 ms and 90, or 3; ten: two rounds.
@pytest.mark.parametrize(
    ("networks", "latency", "mesh", "seconds"),
    [(1, 0, 1, 1e-3), (1, 2e-4, 8, 3e-3), (5, 0, 8, 3e-3), (10, 0, 8, 6e-3)],
)
def test_the_best_mesh(networks, latency, mesh, seconds):
    one = compiled_steps.best(compiled_steps.steps("vgg11_bn", "cifar10", networks), latency)
    assert (one.case.seed, one.bound) == (mesh, pytest.approx(seconds))


def test_collectives_of_all_rounds():
    found = {one.case.seed: one for one in compiled_steps.steps("vgg11_bn", "cifar10", 10)}
    assert (found[1].collectives, found[8].collectives) == (180, 0)


def test_chips_are_busy_for_a_network_at_least():
    assert compiled_steps.chip_seconds("vgg11_bn", "cifar10") == pytest.approx((3e-3, 2e-3))
    assert compiled_steps.chip_seconds("resnet50", "cifar10") is None


def test_compile_times_of_a_mesh_are_its_own(monkeypatch):
    seconds = {"lenet": 5.0, "vgg11": 30.0, "resnet50": 100.0}
    kept = {f"{name} cifar10 8x1": {"cpu": value} for name, value in seconds.items()}
    kept |= {"lenet cifar10 1x8": {"cpu": 2.0}, "vgg11 scale2d 8x1": {"cpu": 1.0}}
    monkeypatch.setattr(compiled_steps, "kept", lambda: kept)
    assert list(compiled_steps.compile_times("cifar10")) == [
        ("cifar10", "1 x 8", "1", "lenet, 2", "2", "lenet, 2"),
        ("cifar10", "8 x 1", "3", "lenet, 5", "30", "resnet50, 100"),
    ]
