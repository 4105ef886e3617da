"""Self checks of the torch oracle: published sizes, unit names, the recipe, and fresh goldens."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the oracle of the classifiers needs torch")

from tests.oracles import make_goldens, parity_inputs, torch_networks, torch_training


def names(text: str) -> list[str]:
    return text.split()


LENET_UNITS = names("""
    conv01 relu01 pool01 conv02 relu02 pool02 linear03 relu03 linear04 relu04 linear05
""")
ALEXNET_UNITS = names("""
    conv01 relu01 pool01 conv02 relu02 pool02 conv03 relu03 conv04 relu04 conv05 relu05 pool05
    dropout05 linear06 relu06 dropout06 linear07 relu07 linear08
""")
VGG11_BN_UNITS = names("""
    conv01 bn01 relu01 pool01 conv02 bn02 relu02 pool02 conv03 bn03 relu03 conv04 bn04 relu04
    pool04 conv05 bn05 relu05 conv06 bn06 relu06 pool06 conv07 bn07 relu07 conv08 bn08 relu08
    pool08 linear09
""")
BASIC_UNITS = names("conv1 bn1 relu1 conv2 bn2 shortcut_conv shortcut_bn add relu2")
BOTTLENECK_UNITS = names("""
    conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3 shortcut_conv shortcut_bn add relu3
""")
INVERTED_UNITS = names("""
    expand_conv expand_bn expand_swish depthwise_conv depthwise_bn depthwise_swish squeeze_pool
    squeeze_conv squeeze_swish excite_conv excite_sigmoid scale project_conv project_bn
    drop_connect add
""")


def parameters(name: str, in_channels: int = 3, outputs: int = 10) -> int:
    net = torch_networks.build(name, in_channels=in_channels, outputs=outputs)
    return sum(p.numel() for p in net.parameters())


def recorded(name: str, **options: float) -> dict[str, "torch.Tensor"]:
    net = torch_networks.build(name, in_channels=3, outputs=10, **options).eval()
    with torch.no_grad():
        return torch_networks.units(net, torch.zeros(1, 3, 32, 32))[1]


def block(units: dict, b: int) -> list[str]:
    return [unit.split("/")[1] for unit in units if unit.startswith(f"block{b:02d}/")]


# Counts that public CIFAR-10 repositories print for these networks.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lenet", 62_006),
        ("vgg11_bn", 9_231_114),
        ("vgg13_bn", 9_416_010),
        ("vgg16_bn", 14_728_266),
        ("vgg19_bn", 20_040_522),
        ("resnet18", 11_173_962),
        ("resnet34", 21_282_122),
        ("resnet50", 23_520_842),
    ],
)
def test_published_parameter_counts(name: str, count: int) -> None:
    assert parameters(name) == count


# Counts by hand from the protocol's layer sizes.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("alexnet", 2_251_584 + 4096 * 1025 + 4096 * 4097 + 10 * 4097),
        ("fully_connected_2", 64 * 3073 + 10 * 64),
        ("fully_connected_6", 64 * 3073 + 4 * 64 * 65 + 10 * 64),
    ],
)
def test_counts_by_hand(name: str, count: int) -> None:
    assert parameters(name) == count


def test_one_channel_lenet_flattens_four_by_four() -> None:
    net = torch_networks.build("lenet", in_channels=1, outputs=1)
    assert net.linear03.in_features == 16 * 4 * 4


def test_unit_names_and_order() -> None:
    assert list(recorded("lenet")) == LENET_UNITS
    assert list(recorded("alexnet", width_factor=0.1)) == ALEXNET_UNITS
    assert list(recorded("vgg11_bn", width_factor=0.1)) == VGG11_BN_UNITS
    assert list(recorded("fully_connected_2")) == ["linear01", "relu01", "linear02"]


def test_residual_unit_names() -> None:
    basic = recorded("resnet18", width_factor=0.1)
    assert list(basic)[:3] == ["conv01", "bn01", "relu01"]
    assert list(basic)[-2:] == ["pool", "linear"]
    plain = [unit for unit in BASIC_UNITS if "shortcut" not in unit]
    with_shortcut = [b for b in range(1, 9) if block(basic, b) == BASIC_UNITS]
    assert with_shortcut == [3, 5, 7]
    assert all(block(basic, b) == plain for b in (1, 2, 4, 6, 8))
    bottleneck = recorded("resnet50", width_factor=0.1)
    assert [b for b in range(1, 17) if block(bottleneck, b) == BOTTLENECK_UNITS] == [1, 4, 8, 14]


def test_efficientnet_unit_names_and_squeeze() -> None:
    found = recorded("efficientnet_b0")
    assert block(found, 1) == INVERTED_UNITS[3:14]
    assert block(found, 2) == INVERTED_UNITS[:14]
    skipping = [b for b in range(1, 17) if block(found, b) == INVERTED_UNITS]
    assert skipping == [3, 5, 7, 8, 10, 11, 13, 14, 15]
    assert found["block02/squeeze_conv"].shape[1] == 4  # a quarter of the 16 input channels
    assert list(found)[-3:] == ["pool", "dropout", "linear"]


def test_drop_connect_drops_whole_branches() -> None:
    torch.manual_seed(0)
    net = torch_networks.build("efficientnet_b0", in_channels=3, outputs=10, drop_connect=0.2)
    assert net.block03.drop_connect.rate == pytest.approx(0.2 * 3 / 16)
    unit = torch_networks.DropConnect(0.25)
    dropped = unit.train()(torch.ones(4000, 2, 3, 3)).flatten(1)
    assert torch.equal(dropped.min(1).values, dropped.max(1).values)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    # Four standard errors of a mean of 4000 Bernoulli draws.
    assert abs((dropped[:, 0] == 0).double().mean() - 0.25) < 4 * math.sqrt(0.1875 / 4000)
    assert torch.equal(unit.eval()(torch.ones(2, 1, 1, 1)), torch.ones(2, 1, 1, 1))


def test_hinge_and_cosine() -> None:
    outputs, labels = torch.tensor([[2.0], [0.5], [0.5]]), torch.tensor([1.0, 1.0, -1.0])
    assert torch_training.hinge(outputs, labels).item() == pytest.approx((0 + 0.5 + 1.5) / 3)
    with pytest.raises(ValueError, match="expected outputs"):
        torch_training.hinge(outputs, labels[:, None])
    assert torch_training.cosine(0.1, 0, 16) == pytest.approx(0.1)
    assert torch_training.cosine(0.1, 8, 16) == pytest.approx(0.05)
    assert torch_training.cosine(0.1, 20, 16) == pytest.approx(torch_training.cosine(0.1, 12, 16))


def test_decay_comes_before_momentum_and_spares_biases() -> None:
    net = torch.nn.Linear(1, 1).double()
    w, b = net.weight.item(), net.bias.item()
    optimizer = torch_training.decayed_sgd(net, lr=0.1, momentum=0.5, weight_decay=0.2)
    batches = [(torch.ones(1, 1).double(), None)] * 2
    torch_training.train_steps(
        net,
        batches,
        loss=lambda outputs, _: outputs.sum(),
        optimizer=optimizer,
        learning_rates=[0.1, 0.3],
    )
    v1 = 1 + 0.2 * w
    w1 = w - 0.1 * v1
    v2 = 0.5 * v1 + 1 + 0.2 * w1
    assert net.weight.item() == pytest.approx(w1 - 0.3 * v2, rel=1e-12)
    assert net.bias.item() == pytest.approx(b - 0.1 - 0.3 * 1.5, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vgg12", {}),
        ("lenet", {"width_factor": 0.5}),
        ("resnet18", {"dropout": 0.5}),
        ("vgg11", {"drop_connect": 0.2}),
    ],
)
def test_impossible_networks_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        torch_networks.build(name, in_channels=3, outputs=10, **options)


@pytest.mark.parametrize("position", [0, 1020, 1021, 2999])
def test_every_entry_counts_in_a_fingerprint(position: int) -> None:
    array = parity_inputs.images("any", 3, 10, 10).ravel()
    changed = array.copy()
    changed[position] += 1e-3
    one, other = (parity_inputs.fingerprint("unit", x) for x in (array, changed))
    difference = np.abs(one - other)[parity_inputs.ENTRIES :]
    np.testing.assert_allclose(difference, 1e-3 / math.sqrt(3000), rtol=1e-6)


def test_fingerprints_tell_orders_apart() -> None:
    array = parity_inputs.images("any", 2, 8, 16)
    one = parity_inputs.fingerprint("unit", array)
    for wrong in (array[:, ::-1], array.transpose(0, 2, 1, 3), array.transpose(0, 3, 1, 2)):
        sums = (parity_inputs.fingerprint("unit", wrong) - one)[parity_inputs.ENTRIES :]
        assert np.all(np.abs(sums) > 1e-3)


def assert_same(got: dict[str, np.ndarray], name: str) -> None:
    """Agreement with the committed file to 1e-9 of scale. Noise of 1e-14 in all parameters moves
    gradients by at most 4e-12 of it; a batch-norm eps of 1.01e-5 moves them by more than 1e-8.
    """
    with np.load(make_goldens.FOLDER / f"{name}.npz") as want:
        assert set(got) == set(want.files)
        for key in want.files:
            if key.endswith("fingerprints"):
                scales = want[key.replace("fingerprints", "scales")]
                difference = np.abs(got[key] - want[key])
                assert np.all(difference <= parity_inputs.tolerances(scales, 1e-9)), key
            elif key.endswith("scales"):
                limit = parity_inputs.tolerances(want[key], 1e-9)[:, 0]
                assert np.all(np.abs(got[key] - want[key]) <= limit), key
            elif want[key].dtype.kind == "f":
                np.testing.assert_allclose(got[key], want[key], rtol=1e-9)
            else:
                np.testing.assert_array_equal(got[key], want[key])


@pytest.mark.parametrize(
    ("name", "channels"), [("lenet", 3), ("lenet", 1), ("resnet18", 3), ("efficientnet_b0", 3)]
)
def test_goldens_are_fresh(name: str, channels: int) -> None:
    assert_same(make_goldens.golden(name, channels), f"{name}_{channels}")


def test_steps_are_fresh() -> None:
    assert_same(make_goldens.steps("fully_connected_4"), "steps_fully_connected_4")


def test_goldens_of_two_networks_differ() -> None:
    with (
        np.load(make_goldens.FOLDER / "vgg11_3.npz") as one,
        np.load(make_goldens.FOLDER / "vgg13_3.npz") as other,
    ):
        assert one["unit_names"][0] == other["unit_names"][0] == "conv01"
        difference = np.abs(one["unit_fingerprints"][0] - other["unit_fingerprints"][0])
        assert np.min(difference) > 1e-6
