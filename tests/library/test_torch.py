"""Modules of PyTorch against the same networks in JAX."""

import types

import jax
from jax.tree_util import Partial
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install cnnpool[torch]")

from flax.traverse_util import flatten_dict
from torch import nn
from torch.nn import functional

import cnnpool as cp
from cnnpool.instruments.channels import shuffle_both_axes, shuffle_channels
from cnnpool.measuring.inputs import measurement_keys
from tests import parity
from tests.library.networks import assert_is_the_definition, assert_same, images, network, weights
from tests.oracles import parity_inputs, torch_networks


class Net(nn.Module):
    """That of `networks`; what follows a convolution overwrites its output."""

    def __init__(self):
        super().__init__()
        self.conv2 = nn.Conv2d(8, 16, 3, bias=False)
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(16, 5, bias=False)
        kernels = {name: torch.from_numpy(kernel) for name, kernel in weights().items()}
        self.conv1.weight.data = kernels["conv1"].permute(3, 2, 0, 1)
        self.conv2.weight.data = kernels["conv2"].permute(3, 2, 0, 1)
        self.linear.weight.data = kernels["linear"].T

    def forward(self, x):
        x = self.dropout(self.relu(self.conv1(x)))
        x = self.relu(self.conv2(x))
        return {"loss": self.linear(x.mean((2, 3))).sum()}  # what it returns does not matter


@pytest.fixture(scope="module")
def in_jax():
    return cp.measure(Partial(network, weights()), images())


def test_it_is_the_network_in_jax(in_jax):
    net = Net()
    found = cp.measure(net, images())
    assert found["layer"].values.tolist() == ["conv1", "conv2", "linear"]
    assert_same(found, in_jax)
    assert_is_the_definition(found, cp.torch.features(net), images())
    assert net.training, "the module is left in the mode that it was in"
    assert not net.conv1._forward_hooks


def test_a_tensor_of_images_has_its_channels_first(in_jax):
    tensor = torch.from_numpy(images()).permute(0, 3, 1, 2).requires_grad_()
    assert_same(cp.measure(cp.torch.features(Net()), tensor), in_jax)
    with pytest.raises(ValueError, match=r"axis 3, .* looks like channels; give images\.permute"):
        cp.measure(Net(), torch.from_numpy(images()))


def test_images_of_bfloat16_are_taken():
    tensor = torch.from_numpy(images()).permute(0, 3, 1, 2).bfloat16()
    assert_same(cp.measure(Net(), tensor), cp.measure(Net(), tensor.float()))


def test_activations_are_channels_last_numpy():
    found = cp.torch.features(Net(), ["*"])(images(2))
    shapes = {name: f.shape for name, f in found.items()}
    assert shapes["conv1"] == (2, 10, 10, 8)
    assert shapes["linear"] == (2, 5)
    assert list(found) == ["conv1", "relu", "dropout", "conv2", "relu:2", "linear"]
    assert found["conv1"].min() < 0 <= found["relu"].min()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["lenet", pytest.param("vgg11_bn", marks=SLOW), pytest.param("resnet18", marks=SLOW)],
)
def test_networks_of_the_protocol_are_those_in_jax(name):
    """All their units: D, a difference, to 2e-4 in float32."""
    options = {} if name == "lenet" else {"width_factor": 0.1}
    module = torch_networks.build(name, in_channels=3, outputs=10, **options)
    state = {
        key: torch.from_numpy(parity_inputs.parameter(key, tuple(t.shape))).float()
        for key, t in module.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    module.load_state_dict(state, strict=False)
    model = parity.network(name, outputs=10, **options)
    x = images(size=32)
    params, batch_stats = parity.parity_variables(model, x[:1], ntk=False)
    ours = cp.measure(
        lambda x: model.apply({"params": params, "batch_stats": batch_stats}, x, train=False)[1], x
    )
    theirs = cp.measure(module, x, layers=["*"])
    renamed = [layer.replace(".", "/") for layer in theirs["layer"].values]
    assert renamed == [layer for layer in ours["layer"].values if layer in renamed]
    units = {path[0] for path in flatten_dict(params)}
    assert len(renamed) > len(units), "convolutions and what follows them"
    assert_same(theirs, ours.sel(layer=renamed))


@pytest.mark.parametrize(
    ("transform", "law", "layers"),
    [
        ("channel_shuffle", shuffle_channels, ["conv2"]),
        ("channel_shuffle_image", shuffle_channels, ["conv1", "conv2"]),
        ("channel_shuffle_both", shuffle_both_axes, ["conv1", "conv2"]),
    ],
)
def test_shuffles_are_those_of_the_channels(transform, law, layers):
    net = Net()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = cp.measure(net, images(), transforms=("none", transform), shuffles=2)
    key = jax.random.fold_in(measurement_keys(0).transform, 0)
    for number in range(2):
        kernels = {f"{layer}.weight": before[f"{layer}.weight"].numpy() for layer in layers}
        shuffled = law(
            kernels, jax.random.fold_in(key, number), pattern=".*", input_axis=1, output_axis=0
        )
        twin = Net()
        for name, kernel in shuffled.items():
            assert not np.array_equal(kernel, kernels[name])
            twin.get_parameter(name).data = torch.from_numpy(np.array(kernel))
        one = cp.measure(twin, images())
        assert_same(found.sel(transform=transform, shuffle=number), one, relative=1e-5)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), "the module itself is not changed"


def test_depthwise_and_transposed_kernels_are_permuted_along_their_channels():
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.Conv2d(6, 6, 3, groups=6, bias=False),
        nn.ConvTranspose2d(6, 4, 3, bias=False),
    )
    ready = cp.torch.features(net).prepared(images(2))
    assert ready.kernels == ("0", "1", "2")
    state = ready.transformed("channel_shuffle", jax.random.key(1)).state
    assert set(state) == {"1.weight", "2.weight"}
    for name, kernel in state.items():
        own = net.get_parameter(name).detach()
        assert not torch.equal(kernel, own)
        order = [int((own == row).flatten(1).all(1).nonzero()) for row in kernel]
        assert sorted(order) == list(range(6)), "rows of the first axis, permuted"


def test_tokens_are_layers_and_parts_of_tuples_have_names():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(tokens, tokens, tokens)[0])

    found = cp.torch.features(Tokens(), ["patches", "attention", "head"])(images(2))
    shapes = {name: f.shape for name, f in found.items()}
    assert shapes == {
        "patches": (2, 3, 3, 8),
        "attention/0": (2, 9, 8),
        "attention/1": (2, 9, 9),
        "head": (2, 9, 4),
    }
    assert cp.measure(Tokens(), images())["layer"].values.tolist() == ["patches", "head"]


def test_a_small_vit_is_measured():
    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            return self.head(self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1))

    torch.manual_seed(0)
    net = cp.torch.features(ViT(), ["patches", "blocks.layers.?", "blocks.layers.?.norm1", "head"])
    shapes = {name: f.shape[1:] for name, f in net(images(2)).items()}
    tokens = {f"blocks.layers.{i}{part}": (9, 8) for i in (0, 1) for part in (".norm1", "")}
    assert shapes == {"patches": (3, 3, 8), **tokens, "head": (5,)}
    assert_is_the_definition(cp.measure(net, images()), net, images())


def test_half_precision_is_taken_as_it_is(in_jax):
    found = cp.measure(Net().bfloat16(), images())
    np.testing.assert_allclose(found["R"], in_jax["R"], rtol=0.1)


class Functional(nn.Module):
    def forward(self, x):
        return {"loss": functional.relu(x).sum()}


@pytest.mark.parametrize(
    ("module", "layers", "message"),
    [
        (Net(), ["conv3"], "'conv3' matches no layer; the nearest are conv2, conv1"),
        (Net(), ["block.*"], r"'block\.\*' matches no layer"),
        (nn.Sequential(nn.ReLU(), nn.Flatten()), None, "no convolution and no linear layer"),
        (nn.Conv2d(3, 4, 3, device="meta"), None, 'on the device "meta"'),
    ],
)
def test_layers_that_are_not_there_are_refused(module, layers, message):
    with pytest.raises(ValueError, match=message):
        cp.measure(module, images(), layers=layers)


def test_modules_that_do_not_run_are_refused():
    net = Net()
    net.idle = nn.Linear(3, 3)
    assert "idle" not in cp.measure(net, images())["layer"]
    with pytest.raises(ValueError, match="no named activations of idle"):
        cp.measure(net, images(), layers=["idle"])


def test_images_that_the_module_does_not_take_are_told_of():
    with pytest.raises(RuntimeError, match="expected input") as caught:
        cp.measure(Net(), images(channels=4))
    assert "of shape (2, 4, 12, 12), in inference mode" in caught.value.__notes__[0]


def test_images_of_another_size_than_a_linear_layer_takes_are_told_of():
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        cp.measure(net, images(size=12))
    assert "of shape (2, 3, 12, 12)" in caught.value.__notes__[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_told_of():
    class OnGpu(nn.Module):
        """As a module looks that was unpickled without its GPU."""

        def parameters(self, recurse=True):
            yield types.SimpleNamespace(device=torch.device("cuda:0"))

    with pytest.raises(
        ValueError, match=r"is on a GPU, but there is none; move it with module\.cpu\(\)"
    ):
        cp.measure(OnGpu(), images())
    with pytest.raises((AssertionError, RuntimeError), match="CUDA"):
        cp.measure(lambda x: {"x": torch.from_numpy(np.array(x)).cuda()}, images())


def test_a_function_of_losses_names_no_activations():
    net = Functional()
    with pytest.raises(TypeError, match="'loss': expected floats of shape"):
        cp.measure(lambda x: net(torch.from_numpy(np.array(x))), images())


def test_a_function_in_training_mode_is_noticed():
    net = nn.BatchNorm2d(3)

    def function(x):
        with torch.no_grad():
            return {"bn": net(torch.from_numpy(np.array(x)).permute(0, 3, 1, 2)).numpy()}

    with pytest.raises(ValueError, match=r"training mode\? .*module\.eval"):
        cp.measure(function, images())
    net.eval()
    assert cp.measure(function, images())["layer"].item() == "bn"


def test_parametrized_kernels_are_refused_where_they_are_shuffled():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    nn.utils.parametrizations.weight_norm(net[1])
    with pytest.raises(ValueError, match="remove_parametrizations"):
        cp.measure(net, images(), transforms="channel_shuffle")


def test_a_kernel_that_layers_share_is_shuffled_once():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    net[2].weight = net[1].weight
    shuffled = (
        cp.torch.features(net).prepared(images(2)).transformed("channel_shuffle", jax.random.key(0))
    )
    net[2].weight = nn.Parameter(net[1].weight.detach().clone())
    of_two = (
        cp.torch.features(net).prepared(images(2)).transformed("channel_shuffle", jax.random.key(0))
    )
    assert shuffled.state.keys() == {"1.weight"}
    assert torch.equal(shuffled.state["1.weight"], of_two.state["1.weight"])


def test_the_module_inside_data_parallel_is_measured(in_jax):
    assert_same(cp.measure(nn.DataParallel(Net()), images()), in_jax)
