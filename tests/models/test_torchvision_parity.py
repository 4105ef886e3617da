"""torchvision's networks against plain PyTorch definitions, in float64 at 224 x 224.

The golden files also hold the names that the parameters have in PyTorch, so that the import is
tested with every network: its state_dict is made anew from names and shapes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool import models
from cnnpool.devices import runtime
from cnnpool.importing import conversion
from cnnpool.models import torchvision
from tests.oracles import parity_inputs, torchvision_inputs
from tests.paths import GOLDENS

FOLDER = GOLDENS / "torchvision"
# Of a unit's maximum. Rounding moves units by 3e-12 at most; one tensor 1e-4 off moves one by 3e-8
# or more, with random weights. Extreme weights are for epsilon, saturation and dead channels.
RELATIVE = 1e-9
QUICK = ("alexnet", "resnet18")


CASES = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in torchvision.NAMES
]


@pytest.mark.parametrize("name", CASES)
def test_every_unit_of_random_and_extreme_weights(name, x64):
    golden = np.load(FOLDER / f"{name}.npz")
    images, compiled = jnp.asarray(torchvision_inputs.images(name)), None
    for kind in torchvision_inputs.KINDS:
        arrays = torchvision_inputs.state_dict_arrays(name, kind, golden["keys"], golden["shapes"])
        found = conversion.to_network(name, dict(arrays), dtype=np.float64)
        assert found.notes == ()
        assert found.model.outputs == 1000
        names = []
        if compiled is None:
            model = models.build(found.model)

            def units(variables, model=model, names=names):
                activations = model.apply(variables._asdict(), images, train=False)[1]
                names.extend(activations)
                return list(activations.values())

            compiled = jax.jit(units, compiler_options=runtime.with_barriers("cpu"))
            order = names
        activations = [np.asarray(a) for a in compiled(found.variables)]
        assert order == list(golden[f"{kind}_unit_names"])
        ours = [np.moveaxis(a, -1, 1) if a.ndim == 4 else a for a in activations]
        shapes = [[d for d in shape if d] for shape in golden[f"{kind}_unit_shapes"]]
        assert [list(a.shape) for a in ours] == shapes
        prints = [torchvision_inputs.fingerprint(n, a) for n, a in zip(order, ours, strict=True)]
        tolerances = RELATIVE * golden[f"{kind}_unit_scales"][:, None]
        assert (abs(np.array(prints) - golden[f"{kind}_unit_fingerprints"]) < tolerances).all()


def test_fingerprints_are_of_whole_units():
    """A unit that differs in one channel alone is told apart."""
    unit = np.random.default_rng(0).normal(size=(1, 8, 14, 14))
    other = unit.copy()
    other[0, 3] *= 1 + 1e-6
    prints = [torchvision_inputs.fingerprint("conv01", a) for a in (unit, other)]
    assert abs(prints[0] - prints[1]).max() > RELATIVE * parity_inputs.scale(unit)
