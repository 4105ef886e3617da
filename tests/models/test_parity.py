"""Our networks against plain PyTorch definitions, in float64, by committed golden files."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import optax
import pytest

from cnnpool.devices import runtime
from cnnpool.training import losses, optimizer
from cnnpool.training.classifier_step import Recipe, TrainState
from cnnpool.training.variables import Variables
from tests import parity
from tests.oracles import parity_inputs
from tests.paths import GOLDENS as FOLDER

NETWORKS = sorted(p.stem for p in FOLDER.glob("*_[13].npz"))
STEPS = sorted(p.stem.removeprefix("steps_") for p in FOLDER.glob("steps_*.npz"))
RELATIVE = 1e-9  # of a unit's maximum; rounding is 4e-12, eps of batch norm 1 % off 6e-8
SMALL = ("lenet", "fully_connected", "vgg11", "alexnet", "resnet18")


def _cases(names):
    """The larger networks compile for longer."""
    return [
        pytest.param(n, marks=() if n.startswith(SMALL) else pytest.mark.slow, id=n) for n in names
    ]


def _recipe(model, loss, rule=None):
    def unchanged(key, images):
        return images

    rule = rule or optax.identity()
    return Recipe(model, unchanged, unchanged, loss, rule, 4, jnp.float64)


def _jit(function):
    return jax.jit(function, compiler_options=runtime.with_barriers("cpu"))


@pytest.fixture(params=_cases(NETWORKS))
def case(request, x64):
    name, channels = request.param.rsplit("_", 1)
    channels = int(channels)
    images, labels = (jnp.asarray(a) for a in parity_inputs.golden_batch(name, channels))
    model = parity.network(name, outputs=parity_inputs.OUTPUTS[channels])
    ntk = name.startswith("fully_connected")
    variables = Variables(*parity.parity_variables(model, images, ntk=ntk))
    loss = losses.LOSSES["cross_entropy" if channels == 3 else "hinge"]
    golden = np.load(FOLDER / f"{request.param}.npz")
    return model, variables, images, labels.astype(int), loss, golden


def test_every_unit_loss_gradient_and_statistics(case):
    model, variables, images, labels, loss, golden = case
    recipe = _recipe(model, loss)
    names = []

    def everything(variables):
        _, activations = model.apply(variables._asdict(), images, train=False)
        names.extend(activations)
        return list(activations.values()), recipe.gradient(variables, images, labels, None)

    units, (gradient, statistics, value, _) = _jit(everything)(variables)
    assert list(dict.fromkeys(names)) == list(golden["unit_names"])
    ours = [np.moveaxis(np.asarray(u), -1, 1) if u.ndim == 4 else np.asarray(u) for u in units]
    found = [parity_inputs.fingerprint(n, a) for n, a in zip(names, ours, strict=False)]
    sizes = [np.prod([d for d in shape if d]) for shape in golden["unit_shapes"]]
    assert [a.size for a in ours] == sizes
    differences = abs(np.array(found) - golden["unit_fingerprints"])
    assert (differences / parity_inputs.tolerances(golden["unit_scales"], RELATIVE)).max() < 1
    np.testing.assert_allclose(value, golden["loss"], rtol=RELATIVE)
    parity.assert_equal(gradient, golden, kind="gradient_", relative=RELATIVE)
    if len(golden["statistic_names"]):
        parity.assert_equal(statistics, golden, kind="statistic_", relative=RELATIVE)


def test_alexnet_with_dropout_masks_fed(x64):
    golden = np.load(FOLDER / "alexnet_3.npz")
    images, labels = (jnp.asarray(a) for a in parity_inputs.golden_batch("alexnet", 3))
    model = parity.network("alexnet", outputs=10, dropout=0.5)
    params, _ = parity.parity_variables(model, images, ntk=False)
    shapes = {"dropout05": (4, 1024), "dropout06": (4, 4096)}
    masks = {
        unit: {"mask": jnp.asarray(parity_inputs.dropout_mask(unit, shape))}
        for unit, shape in shapes.items()
    }

    def mean_loss(params):
        outputs, _ = model.apply({"params": params, "masks": masks}, images, train=True)
        return losses.cross_entropy(outputs, labels).mean()

    value, gradient = _jit(jax.value_and_grad(mean_loss))(params)
    np.testing.assert_allclose(value, golden["dropout_loss"], rtol=RELATIVE)
    names = golden["gradient_names"]
    parity.assert_equal(gradient, golden, kind="dropout_gradient_", relative=RELATIVE, names=names)


def _training(name):
    """The recipe of 20 steps, each counted as an epoch."""
    adam = name.startswith("fully_connected")
    return ConfigDict(
        {
            "optimizer": "adam" if adam else "sgd",
            "learning_rate": 1e-3 if adam else 0.01,
            "momentum": 0.9,
            "weight_decay": 0.0 if adam else 5e-4,
            "schedule": "constant" if adam else "cosine",
            "cosine_period": 0.8,
            "warmup_epochs": 0,
            "clip_norm": None,
            "epochs": 20,
        }
    )


@pytest.mark.parametrize("name", _cases(STEPS))
def test_twenty_steps(name, x64):
    golden = np.load(FOLDER / f"steps_{name}.npz")
    width_factor = 1.0 if name.startswith(("lenet", "fully")) else 0.125
    model = parity.network(name, outputs=10, width_factor=width_factor)
    batches = [tuple(map(jnp.asarray, b)) for b in parity_inputs.step_batches(name)]
    variables = Variables(
        *parity.parity_variables(model, batches[0][0], ntk=name.startswith("fully_connected"))
    )
    rule = optimizer.build(_training(name), steps_per_epoch=1)
    recipe = _recipe(model, losses.LOSSES["cross_entropy"], rule)
    state = TrainState(variables, rule.init(variables.params), variables, jnp.asarray(jnp.inf))
    step, found = _jit(recipe.step), []
    for images, labels in batches:
        state, loss, _ = step(state, images, labels, None)
        found.append(float(loss))
    np.testing.assert_allclose(found, golden["losses"], rtol=RELATIVE)
    rates = [optimizer.learning_rate(_training(name), t, steps_per_epoch=1) for t in range(20)]
    np.testing.assert_allclose(rates, golden["learning_rates"], rtol=1e-12)
    tree = {k: dict(v) for k, v in state.current.params.items()}
    after = _merged(tree, state.current.batch_stats)
    parity.assert_equal(after, golden, kind="", relative=RELATIVE)


def _merged(params, statistics):
    """Parameters and statistics in one tree: their leaves have different names."""
    if not isinstance(params, dict):
        return params
    both = {**params, **{k: v for k, v in statistics.items() if k not in params}}
    return {k: _merged(v, statistics.get(k, {})) if k in params else v for k, v in both.items()}
