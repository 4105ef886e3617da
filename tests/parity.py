"""The parameters and activations of our networks in the terms of the PyTorch oracle."""

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from cnnpool import models
from tests.oracles import parity_inputs

_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def network(name, *, outputs, width_factor=1.0, dropout=0.0):
    config = ConfigDict(
        {
            "name": name,
            "outputs": outputs,
            "width_factor": width_factor,
            "fully_connected_width": 64,
            "alexnet_dropout": dropout,
            "efficientnet_dropout": dropout,
            "efficientnet_drop_connect": 0.0,
        }
    )
    return models.build(config)


def torch_name(path):
    return ".".join([*path[:-1], _LEAVES[path[-1]]])


def to_torch_layout(path, array):
    """HWIO kernels to OIHW, (in, out) weights to (out, in)."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim if path[-1] == "kernel" else 0)
    return array if axes is None else array.transpose(axes)


def from_torch_layout(path, array):
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim if path[-1] == "kernel" else 0)
    return array if axes is None else array.transpose(axes)


def parity_variables(model, images, *, ntk):
    """Parameters and statistics of `parity_inputs`, in our layout, float64."""
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), images)
    variables = {}
    for collection, tree in shapes.items():
        flat = {}
        for path, leaf in flatten_dict(tree).items():
            shape = to_torch_layout(path, np.broadcast_to(0.0, leaf.shape)).shape
            value = parity_inputs.parameter(torch_name(path), shape, ntk=ntk)
            flat[path] = jnp.asarray(from_torch_layout(path, value))
        variables[collection] = unflatten_dict(flat)
    return variables.get("params", {}), variables.get("batch_stats", {})


def assert_equal(tree, golden, *, kind, relative, names=None):
    """Holds every leaf of a tree against the golden arrays KIND_fingerprints and KIND_scales."""
    names = golden[f"{kind}names"] if names is None else names
    ours = {torch_name(p): to_torch_layout(p, np.asarray(a)) for p, a in flatten_dict(tree).items()}
    assert sorted(ours) == sorted(names)
    found = [parity_inputs.fingerprint(name, ours[name]) for name in names]
    tolerances = parity_inputs.tolerances(golden[f"{kind}scales"], relative)
    assert (abs(np.array(found) - golden[f"{kind}fingerprints"]) < tolerances).all()
