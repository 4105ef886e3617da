"""The image classifiers: names, sizes, initialization, laws between their activations, errors."""

import functools

from flax import linen as nn
from flax.traverse_util import flatten_dict
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool import models
from cnnpool.models.efficientnet import MBConv, Stage
from cnnpool.models.resnet import BasicBlock, Bottleneck

VGGS = [f"vgg{depth}{suffix}" for depth in (11, 13, 16, 19) for suffix in ("", "_bn")]
NETWORKS = [
    *("lenet", "alexnet", *VGGS, "resnet18", "resnet34", "resnet50", "efficientnet_b0"),
    *("fully_connected_2", "fully_connected_4", "fully_connected_6"),
]
KEY = jax.random.key(0)


def make_config(name, **changes):
    fields = {
        "name": name,
        "outputs": 10,
        "width_factor": 1.0,
        "fully_connected_width": 64,
        "alexnet_dropout": 0.5,
        "efficientnet_dropout": 0.2,
        "efficientnet_drop_connect": 0.0,
    }
    return ConfigDict(fields | changes).lock()


@functools.cache
def trace(name, *, shape=(2, 32, 32, 3), dtype="float32", train=False, **changes):
    """Shapes of variables, output and activations; nothing is computed."""
    model, names = models.build(make_config(name, **changes)), []

    def run(key):
        x = jnp.ones(shape, dtype)
        variables = model.init(key, x, train=False)
        (output, activations), _ = model.apply(
            variables, x, train=train, rngs={"dropout": key}, mutable="batch_stats"
        )
        assert output is list(activations.values())[-1]
        names.extend(activations)  # a dict that leaves jit is sorted
        return variables, output, activations

    variables, output, activations = jax.eval_shape(run, KEY)
    return variables, output, {unit: activations[unit] for unit in names}


@functools.cache
def small(name, shape):
    """The parameters of a network, random images, its output; all as numpy arrays."""
    model = models.build(make_config(name))
    x = jax.random.normal(jax.random.key(1), shape)

    def run(x):
        params = model.init(KEY, x, train=False)["params"]
        return params, x, model.apply({"params": params}, x, train=False)[0]

    return jax.tree.map(np.asarray, jax.jit(run)(x))


def run_block(block, x, masks):
    """Output and activations of one block in training."""

    @jax.jit
    def run(x):
        variables = {**block.init({"params": KEY, "dropout": KEY}, x), "masks": masks}
        return block.apply(variables, x)

    return run(x)


LENET = "conv01 relu01 pool01 conv02 relu02 pool02 linear03 relu03 linear04 relu04 linear05"
ALEXNET = (
    "conv01 relu01 pool01 conv02 relu02 pool02 conv03 relu03 conv04 relu04 conv05 relu05 pool05 "
    "dropout05 linear06 relu06 dropout06 linear07 relu07 linear08"
)
VGG11 = (
    "conv01 relu01 pool01 conv02 relu02 pool02 conv03 relu03 conv04 relu04 pool04 "
    "conv05 relu05 conv06 relu06 pool06 conv07 relu07 conv08 relu08 pool08 linear09"
)
VGG13_BN = (
    "conv01 bn01 relu01 conv02 bn02 relu02 pool02 conv03 bn03 relu03 conv04 bn04 relu04 pool04 "
    "conv05 bn05 relu05 conv06 bn06 relu06 pool06 conv07 bn07 relu07 conv08 bn08 relu08 pool08 "
    "conv09 bn09 relu09 conv10 bn10 relu10 pool10 linear11"
)
BASIC = "conv1 bn1 relu1 conv2 bn2 {}add relu2"
BOTTLENECK = "conv1 bn1 relu1 conv2 bn2 relu2 conv3 bn3 {}add relu3"
MBCONV = (
    "{}depthwise_conv depthwise_bn depthwise_swish squeeze_pool squeeze_conv squeeze_swish "
    "excite_conv excite_sigmoid scale project_conv project_bn{}"
)


def blocks(units):
    """block01/..., block02/... of the units of each block."""
    return [f"block{n:02d}/{unit}" for n, block in enumerate(units, 1) for unit in block.split()]


def resnet_units(block, changing, count):
    shortcut = {n: "shortcut_conv shortcut_bn " for n in changing}
    inner = blocks(block.format(shortcut.get(n, "")) for n in range(1, count + 1))
    return ["conv01", "bn01", "relu01", *inner, "pool", "linear"]


def efficientnet_units():
    skips = {3, 5, 7, 8, 10, 11, 13, 14, 15}
    expand = "expand_conv expand_bn expand_swish "
    inner = blocks(
        MBCONV.format("" if n == 1 else expand, " drop_connect add" if n in skips else "")
        for n in range(1, 17)
    )
    return ["conv01", "bn01", "swish01", *inner, "pool", "dropout", "linear"]


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("lenet", LENET.split()),
        ("alexnet", ALEXNET.split()),
        ("vgg11", VGG11.split()),
        ("vgg13_bn", VGG13_BN.split()),
        ("resnet18", resnet_units(BASIC, {3, 5, 7}, 8)),
        ("resnet34", resnet_units(BASIC, {4, 8, 14}, 16)),
        ("resnet50", resnet_units(BOTTLENECK, {1, 4, 8, 14}, 16)),
        ("efficientnet_b0", efficientnet_units()),
        ("fully_connected_2", ["linear01", "relu01", "linear02"]),
    ],
)
def test_units_are_named_in_forward_order(name, units):
    assert list(trace(name)[2]) == units


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("lenet", 62_006),
        ("alexnet", 2_251_584 + 1025 * 4096 + 4097 * 4096 + 40_970),
        ("vgg11_bn", 9_231_114),
        ("resnet18", 11_173_962),
        ("resnet50", 23_520_842),
        ("efficientnet_b0", 3_598_598),
        ("fully_connected_4", 3072 * 64 + 2 * 64 * 64 + 3 * 64 + 640),
    ],
)
def test_parameter_counts(name, count):
    params = trace(name)[0]["params"]
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) == count


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("dtype", "train", "shape"),
    [("bfloat16", True, (2, 28, 28, 1)), ("float64", False, (2, 32, 32, 3))],
)
def test_every_network_computes_in_the_dtype_of_its_images(name, dtype, train, shape):
    variables, output, activations = trace(name, shape=shape, dtype=dtype, train=train)
    assert output.shape == (2, 10)
    computed = {**activations, **flatten_dict(variables["params"])}
    assert {unit for unit, leaf in computed.items() if leaf.dtype != dtype} == set()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_belongs_to_a_recorded_unit(name):
    variables, _, activations = trace(name)
    units = {path.rpartition("/")[0] for path in flatten_dict(variables["params"], sep="/")}
    with_parameters = [u for u in activations if any(k in u for k in ("conv", "bn", "linear"))]
    assert units == set(with_parameters)


@pytest.mark.parametrize("name", ["vgg11_bn", "resnet18", "alexnet"])
def test_the_width_factor_scales_all_channels(name):
    narrow, wide = (trace(name, width_factor=factor)[2] for factor in (0.25, 1.0))
    for unit in list(wide)[:-1]:
        assert 4 * narrow[unit].shape[-1] == wide[unit].shape[-1], unit
    assert list(narrow.values())[-1].shape == (2, 10)


def test_initialization_is_uniform_with_variance_one_third_of_the_inverse_fan_in():
    params, *_ = small("lenet", (2, 16, 16, 3))
    for unit, layer in params.items():
        fan_in = np.prod(layer["kernel"].shape[:-1])
        for leaf in layer.values():
            square = fan_in * leaf.astype("float64") ** 2
            assert square.max() <= 1 + 1e-5, unit
            # Five standard errors: the square of U(-1, 1) has variance 4/45.
            assert abs(square.mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / leaf.size), unit


def test_initialization_of_fully_connected_nets_is_standard_normal():
    for leaf in jax.tree.leaves(small("fully_connected_4", (3, 5, 4, 2))[0]):
        assert abs((leaf**2).mean() - 1) < 5 * np.sqrt(2 / leaf.size)


def test_layers_are_initialized_independently():
    params, *_ = small("fully_connected_4", (3, 5, 4, 2))
    same = [params["linear02"]["kernel"].ravel(), params["linear03"]["kernel"].ravel()]
    assert abs(np.corrcoef(*same)[0, 1]) < 5 / np.sqrt(same[0].size)
    biases = [params[f"linear0{k}"]["bias"] for k in (1, 2, 3)]
    assert np.abs(np.corrcoef(biases)[np.triu_indices(3, 1)]).max() < 5 / np.sqrt(64)
    start = params["linear02"]["kernel"].ravel()[:64]
    assert abs(np.corrcoef(start, params["linear02"]["bias"])[0, 1]) < 5 / np.sqrt(64)


def test_fully_connected_nets_agree_with_their_formula():
    params, x, output = small("fully_connected_4", (3, 5, 4, 2))
    h = x.astype("float64").transpose(0, 3, 1, 2).reshape(3, 40)
    for k in (1, 2, 3):
        layer = params[f"linear0{k}"]
        h = np.maximum(h @ layer["kernel"] / np.sqrt(h.shape[1]) + layer["bias"], 0)
    assert set(params["linear04"]) == {"kernel"}
    np.testing.assert_allclose(output, h @ params["linear04"]["kernel"] / 64, atol=1e-5)


@pytest.mark.parametrize(("kind", "bn", "relu"), [(BasicBlock, 2, 2), (Bottleneck, 3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_residual_blocks_add_their_shortcuts(kind, bn, relu, stride):
    features = 4 if kind is BasicBlock else 1
    x = jax.random.normal(KEY, (2, 4, 4, 4))
    output, units = run_block(kind(features, stride, train=True), x, {})
    shortcut = x if stride == 1 else units["shortcut_bn"]
    assert ("shortcut_conv" in units) == (stride == 2)
    np.testing.assert_allclose(units["add"], units[f"bn{bn}"] + shortcut, atol=1e-6)
    np.testing.assert_array_equal(output, np.maximum(units["add"], 0))
    np.testing.assert_array_equal(output, units[f"relu{relu}"])


def test_an_efficientnet_block_gates_its_channels():
    x = jax.random.normal(KEY, (2, 4, 4, 8))
    output, units = run_block(MBConv(Stage(2, 12, 1, 5, 2), 2, 0.5, train=True), x, {})
    assert units["squeeze_conv"].shape == (2, 1, 1, 2)
    pooled = units["depthwise_swish"].mean((1, 2), keepdims=True)
    np.testing.assert_allclose(units["squeeze_pool"], pooled, atol=1e-6)
    gated = units["depthwise_swish"] * units["excite_sigmoid"]
    np.testing.assert_allclose(units["scale"], gated, atol=1e-6)
    np.testing.assert_array_equal(output, units["project_bn"])
    assert output.shape == (2, 2, 2, 12)


def test_drop_connect_drops_the_branch_and_not_the_skip():
    x = jax.random.normal(KEY, (2, 4, 4, 8))
    mask = np.array([0, 2], "float32")[:, None, None, None]
    block = MBConv(Stage(2, 8, 1, 3, 1), 1, 0.5, train=True)
    output, units = run_block(block, x, {"drop_connect": {"mask": mask}})
    np.testing.assert_allclose(output[0], x[0], atol=1e-6)
    np.testing.assert_allclose(output[1], x[1] + 2 * units["project_bn"][1], atol=1e-5)


def test_the_drop_connect_rate_grows_with_the_block():
    config = make_config("efficientnet_b0", efficientnet_drop_connect=0.2)
    model, rates = models.build(config), {}

    def record(next_function, args, kwargs, context):
        if context.module.name == "drop_connect":
            rates[context.module.path[0]] = context.module.rate
        return next_function(*args, **kwargs)

    with nn.intercept_methods(record):
        jax.eval_shape(lambda key: model.init(key, jnp.ones((1, 8, 8, 3)), train=False), KEY)
    assert rates["block03"] == pytest.approx(0.2 * 2 / 16)
    assert rates["block15"] == pytest.approx(0.2 * 14 / 16)


LAST_MAPS = {
    "lenet": ("lenet", "pool02", 1),
    "alexnet": ("alexnet", "pool05", 2),
    "vgg11": ("vgg", "pool08", 1),
    "resnet18": ("resnet", "block08/add", 4),
}


@pytest.mark.parametrize(
    ("name", "channels", "smallest", "largest"),
    [
        ("lenet", 3, 16, None),
        ("alexnet", 3, 32, 46),
        ("alexnet", 1, 28, 42),
        ("vgg11", 3, 32, 63),
        ("vgg11", 1, 28, 59),
        ("resnet18", 3, 25, 32),
    ],
)
def test_images_of_a_size_that_a_network_cannot_take_are_refused(name, channels, smallest, largest):
    family, last, side = LAST_MAPS[name]
    for size in filter(None, (smallest, largest)):
        units = trace(name, shape=(1, size, size, channels))[2]
        assert units[last].shape[1:3] == (side, side)
    for size in (smallest - 1, largest + 1) if largest else (smallest - 1,):
        with pytest.raises(
            ValueError, match=rf"{family}.* expects images of .* got \d+ x \d+; take"
        ):
            trace(name, shape=(1, size, 32, channels))


def test_lenet_takes_large_images():
    assert trace("lenet", shape=(1, 70, 64, 1))[1].shape == (1, 10)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("lenet", {"outputs": 0}, "model.outputs must be at least 1, got 0"),
        ("vgg11", {"width_factor": 0.0}, "model.width_factor must be positive, got 0.0"),
        ("lenet", {"width_factor": 0.5}, r"must be 1.0 for lenet.*got 0.5; AlexNet, VGG and"),
        ("efficientnet_b0", {"width_factor": 2.0}, "must be 1.0 for efficientnet_b0"),
        ("fully_connected_4", {"width_factor": 2.0}, "must be 1.0 for fully_connected_4"),
        ("fully_connected_2", {"fully_connected_width": 0}, "fully_connected_width must be at"),
        ("alexnet", {"alexnet_dropout": 1.0}, r"model.alexnet_dropout must be in \[0, 1\), got 1"),
        ("efficientnet_b0", {"efficientnet_dropout": -0.1}, "efficientnet_dropout must be in"),
        ("efficientnet_b0", {"efficientnet_drop_connect": 1.5}, "efficientnet_drop_connect must"),
        ("vgg11bn", {}, r"'vgg11bn'; expected one of \['alexnet'.*did you mean 'vgg11_bn' or"),
        ("transformer", {}, r"'transformer'; expected one of \["),
    ],
)
def test_an_impossible_config_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        models.build(make_config(name, **changes))


def test_every_name_of_the_protocol_builds():
    for name in NETWORKS:
        models.build(make_config(name))


def test_a_config_that_does_not_say_where_the_network_ends_is_refused():
    for name in ("alexnet", "vgg11", "resnet18", "efficientnet_b0"):
        with pytest.raises(ValueError, match=r"features_only is not there.*not trained"):
            models.build(ConfigDict({"name": f"torchvision_{name}", "outputs": 10}))
