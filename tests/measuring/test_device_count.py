"""How many devices images are spread over changes a measurement by rounding alone; recorded."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType
from ml_collections import ConfigDict
import numpy as np
import pytest

from cnnpool import models
from cnnpool.devices import runtime
from cnnpool.instruments.perturbation import Inputs
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.measuring import network
from cnnpool.runs import provenance
from cnnpool.training.variables import Variables

# Of float32: other batches are other orders of the sums in convolutions and over images. Measured
# here 1e-6 of D, G and R. Their standard errors take each image's distance from the mean from 1024
# random projections, relative to a reference that is another one on each device: 3 % here.
TOLERANCE, TOLERANCE_OF_ERRORS = 2e-5, 0.1


def measured(monkeypatch, mesh):
    monkeypatch.setattr(runtime, "image_mesh", lambda *_: mesh)
    model = models.build(ConfigDict({"name": "lenet", "outputs": 10, "width_factor": 1.0}))
    rng = np.random.default_rng(0)
    clean = rng.standard_normal((30, 32, 32, 3)).astype(np.float32)
    moved, noisy = (clean[None] + rng.standard_normal((2, 1, *clean.shape)) / 10).astype(np.float32)
    found = model.init(jax.random.key(0), jnp.asarray(clean[:1]), train=False)
    return network.moments(
        model,
        Variables(found["params"], {}),
        "channel_shuffle",
        jax.random.key(1),
        Inputs(*map(jnp.asarray, (clean, moved, noisy))),
        untrained=False,
        batch_size=0,
    )


@pytest.mark.slow
def test_one_device_and_eight_measure_the_same(monkeypatch):
    eight = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    one, several = (sensitivities(measured(monkeypatch, mesh)) for mesh in (None, eight))
    assert list(one) == list(several)
    for name, layer in one.items():
        for field, value in layer._asdict().items():
            tolerance = TOLERANCE_OF_ERRORS if field.endswith("_se") else TOLERANCE
            np.testing.assert_allclose(value, getattr(several[name], field), rtol=tolerance)


def test_a_result_says_how_many_devices_there_were():
    assert provenance.record()["host_platform"].endswith(f", {jax.device_count()} x cpu")
    assert jax.device_count() == 8


def test_images_are_not_spread_over_more_devices_than_cores(monkeypatch):
    monkeypatch.setattr(runtime, "cores", lambda: 4)
    mesh = runtime.image_mesh(0)
    assert mesh is not None
    assert mesh.size == 4
    assert runtime.image_mesh(10**9) is None, "a network of a gigabyte is copied to no second one"
