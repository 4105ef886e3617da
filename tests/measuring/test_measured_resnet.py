"""D, G, R of an imported ResNet18 on real pictures against PyTorch, PIL and scipy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool import models
from cnnpool.data import preparation
from cnnpool.importing import conversion
from cnnpool.instruments.diffeomorphisms import bilinear, warp
from cnnpool.instruments.perturbation import Inputs, perturb
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.measuring.network import moments
from tests.models.test_torchvision_parity import FOLDER
from tests.oracles import measured_resnet as oracle
from tests.oracles import torchvision_inputs


@pytest.fixture(scope="module")
def network():
    shapes = np.load(FOLDER / "resnet18.npz")
    arrays = torchvision_inputs.state_dict_arrays(
        "resnet18", "random", shapes["keys"], shapes["shapes"]
    )
    found = conversion.to_network("resnet18", dict(arrays))
    return models.build(found.model), found.variables


@pytest.fixture(scope="module")
def golden():
    with np.load(oracle.GOLDEN) as file:
        return dict(zip(file["units"], file["values"], strict=True))


def prepared(data_dir):
    sizes = preparation.Sizes(preparation.RESIZE, preparation.CROP)
    pixels = np.stack([preparation.read(f.read_bytes(), sizes) for f in oracle.files(data_dir)])
    mean, std = np.array(preparation.MEAN), np.array(preparation.STD)
    return jnp.asarray((pixels / 255 - mean) / std, jnp.float32)


def measure(network, inputs):
    found = moments(*network, "none", jax.random.key(0), inputs, untrained=False, batch_size=0)
    return sensitivities(found)


@pytest.mark.slow
def test_with_the_same_fields_and_noise(network, golden, data_dir):
    """float32 all the way, against float64: to 1e-3 of every number."""
    given = oracle.inputs(data_dir)
    clean = prepared(data_dir)
    np.testing.assert_allclose(clean, given.clean, atol=1e-5)
    fields = jnp.asarray(given.fields, jnp.float32)
    deformed = jax.vmap(lambda x, f: warp(x, f, interpolation=bilinear))(clean, fields)
    direction = jnp.asarray(given.directions, jnp.float32)
    lengths = [jnp.linalg.norm((a).reshape(8, -1), axis=1) for a in (deformed - clean, direction)]
    noisy = clean + direction * (lengths[0] / lengths[1])[:, None, None, None]
    found = measure(network, Inputs(clean, deformed[None], noisy[None]))
    assert list(found) == list(golden)
    for unit, expected in golden.items():
        np.testing.assert_allclose(found[unit][:3], expected, rtol=1e-3, err_msg=unit)


@pytest.mark.slow
def test_with_fields_and_noise_of_their_own(network, golden, data_dir):
    """Within five standard errors of the difference of two draws of eight fields."""
    found = measure(network, perturb(prepared(data_dir), *jax.random.split(jax.random.key(1))))
    for unit, expected in golden.items():
        ours = np.array(found[unit])
        assert (abs(ours[:3] - expected) < 5 * np.sqrt(2) * ours[3:]).all(), unit
