"""Networks in ONNX, run by ONNX Runtime; their graphs are made here, node by node."""

import jax
from jax.tree_util import Partial
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="not installed: pip install cnnpool[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="not installed: pip install cnnpool[onnx]")

from onnx import helper, numpy_helper

import cnnpool as cp
from cnnpool.instruments.channels import shuffle_both_axes, shuffle_channels
from cnnpool.measuring.inputs import measurement_keys
from tests.library.networks import assert_is_the_definition, assert_same, images, network, weights

SHAPE = ("batch", 3, "rows", "columns")


def kernels():
    """Those of `networks` as ONNX has them."""
    found = weights()
    return {
        "conv1.weight": found["conv1"].transpose(3, 2, 0, 1),
        "conv2.weight": found["conv2"].transpose(3, 2, 0, 1),
        "linear.weight": found["linear"],
    }


def graph(kernels, shape=SHAPE, nodes=()):
    """The network of `networks`; its only output is a loss."""
    every = [
        *nodes,
        helper.make_node("Conv", ["x", "conv1.weight"], ["conv1"]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("Conv", ["relu1", "conv2.weight"], ["conv2"]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("ReduceMean", ["relu2", "axes"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "linear.weight"], ["linear"]),
        helper.make_node("ReduceSum", ["linear"], ["loss"], keepdims=0),
    ]
    numbers = {**kernels, "axes": np.array([2, 3])}
    made = helper.make_graph(
        every,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("loss", onnx.TensorProto.FLOAT, ())],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in numbers.items()],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(made, opset_imports=[opset], ir_version=10)


@pytest.fixture(scope="module")
def in_jax():
    return cp.measure(Partial(network, weights()), images())


@pytest.mark.parametrize("batch", ["batch", 1, 7])
def test_a_file_is_the_network_in_jax(batch, in_jax, tmp_path):
    onnx.save(graph(kernels(), (batch, 3, 12, 12)), tmp_path / "model.onnx")
    found = cp.measure(str(tmp_path / "model.onnx"), images())
    assert found["layer"].values.tolist() == ["conv1", "conv2", "linear"]
    assert_same(found, in_jax)
    assert_is_the_definition(found, cp.onnx.features(tmp_path / "model.onnx"), images())


def test_layers_are_outputs_of_nodes_channels_last():
    found = cp.onnx.features(graph(kernels()), ["relu*", "pooled"])(images(2))
    assert {name: f.shape for name, f in found.items()} == {
        "relu1": (2, 10, 10, 8),
        "relu2": (2, 8, 8, 16),
        "pooled": (2, 16),
    }
    with pytest.raises(ValueError, match="'conv3' matches no layer; the nearest are conv"):
        cp.measure(graph(kernels()), images(), layers=["conv3"])


@pytest.mark.parametrize(
    ("transform", "law", "pattern"),
    [
        ("channel_shuffle", shuffle_channels, "conv2.weight"),
        ("channel_shuffle_image", shuffle_channels, "conv.*"),
        ("channel_shuffle_both", shuffle_both_axes, "conv.*"),
    ],
)
def test_shuffles_are_those_of_the_channels(transform, law, pattern):
    net = graph(kernels())
    before = net.SerializeToString()
    found = cp.measure(net, images(), transforms=("none", transform), shuffles=2)
    key = jax.random.fold_in(measurement_keys(0).transform, 0)
    axes = {"pattern": pattern, "input_axis": 1, "output_axis": 0}
    for number in range(2):
        shuffled = law(kernels(), jax.random.fold_in(key, number), **axes)
        one = cp.measure(graph({n: np.asarray(k) for n, k in shuffled.items()}), images())
        assert_same(found.sel(transform=transform, shuffle=number), one, relative=1e-5)
    assert net.SerializeToString() == before


def test_a_session_has_its_outputs_alone():
    net = graph(kernels())
    net.graph.output.append(onnx.ValueInfoProto(name="conv2"))
    session = onnxruntime.InferenceSession(net.SerializeToString())
    found = cp.measure(session, images(), layers=["conv2"])
    assert found["layer"].values.tolist() == ["conv2"]
    with pytest.raises(ValueError, match="channel_shuffle"):
        cp.measure(session, images(), layers=["conv2"], transforms="channel_shuffle")
    with pytest.raises(TypeError, match="'loss': expected floats of shape"):
        cp.measure(session, images())


def test_images_that_are_channels_last_in_the_graph_are_given_so(in_jax):
    turn = helper.make_node("Transpose", ["images"], ["x"], perm=(0, 3, 1, 2))
    net = graph(kernels(), ("batch", 12, 12, 3), [turn])
    net.graph.input[0].name = "images"
    assert_same(cp.measure(net, images()), in_jax)


def test_other_images_and_other_inputs_are_refused():
    with pytest.raises(
        ValueError, match=r"takes images of shape \[3, 16, 16\] .*got \[3, 12, 12\]"
    ):
        cp.measure(graph(kernels(), (1, 3, 16, 16)), images())
    net = graph(kernels())
    net.graph.input.append(helper.make_tensor_value_info("mask", onnx.TensorProto.FLOAT, (1,)))
    with pytest.raises(
        ValueError, match=r"one batch of floating-point images, \(N, C, H, W\); it takes"
    ):
        cp.measure(net, images())
    with pytest.raises(TypeError, match=r"NAME\.onnx, got 'model\.tflite'"):
        cp.measure("model.tflite", images())
    with pytest.raises(FileNotFoundError):
        cp.measure("absent.onnx", images())


def test_computed_kernels_are_refused_where_they_are_shuffled():
    own = kernels()
    twice = helper.make_node("Add", ["half", "half"], ["conv2.weight"])
    own["half"] = own.pop("conv2.weight") / 2
    with pytest.raises(ValueError, match=r"expects stored kernels; conv2\.weight"):
        cp.measure(graph(own, nodes=[twice]), images(), transforms="channel_shuffle")
