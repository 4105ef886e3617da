"""Functions of any framework, measured in one call, against the estimator itself."""

import functools
import json

import jax
from jax.tree_util import Partial
import numpy as np
import pytest

import cnnpool as cp
from cnnpool.figures import networks as figure_networks
from cnnpool.instruments.moments import image_moments
from cnnpool.instruments.perturbation import perturb
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.measuring.inputs import measurement_keys
from tests.library.networks import P, assert_same, images, network, on_the_host, weights

JAX = Partial(network, weights())


@pytest.fixture(scope="module")
def measured():
    return cp.measure(JAX, images())


def estimated(function, x, seed=0, **options):
    """The same by the estimator, with the keys of cnnpool.eval."""
    keys = measurement_keys(seed)
    inputs = perturb(x, keys.diffeomorphism, keys.noise, **options)
    found = sensitivities(image_moments(function, *inputs))
    return {
        name: [getattr(layer, name) for layer in found.values()]
        for name in ("D", "G", "R", "D_se", "G_se", "R_se")
    }


def test_numbers_are_the_estimator_s(measured):
    assert measured["layer"].values.tolist() == ["conv1", "conv2", "linear"]
    assert measured["depth"].values.tolist() == [1, 2, 3]
    assert_same(measured, estimated(JAX, jax.numpy.asarray(images())), relative=1e-6)


def test_a_function_that_jax_cannot_trace_gives_the_same(measured):
    assert_same(cp.measure(on_the_host, images()), measured)


@pytest.mark.parametrize("batch", [9, 30, 1000])
def test_the_batch_changes_rounding_alone(measured, batch):
    # Errors come from estimates with another reference (see `image_moments`).
    found = cp.measure(on_the_host, images(), batch=batch)
    for name in ("D", "G", "R"):
        np.testing.assert_allclose(found[name], measured[name], rtol=2e-4)


def test_every_perturbation_is_where_it_says():
    options = {"deltas": (0.5, 1), "cutoffs": (3, 4), "noise": ("white", "chroma")}
    with pytest.warns(UserWarning, match="cut-off 4"):
        found = cp.measure(JAX, images(), seed=3, draws=2, **options)
    cell = found.sel(delta=0.5, cutoff=4, noise="chroma")
    one = {"delta": 0.5, "cutoff": 4, "noise": "chroma", "draws": 2}
    assert_same(cell, estimated(JAX, jax.numpy.asarray(images()), seed=3, **one), relative=1e-6)


def test_one_value_may_stand_alone_and_numbers_may_be_numpy_s(measured):
    options = {"deltas": 1, "cutoffs": np.int64(3), "noise": "white"}
    whole = {"draws": np.int64(1), "shuffles": np.int32(5), "seed": np.int64(0)}
    found = cp.measure(JAX, images(), **options, **whole)
    assert found.attrs["measurement"] == measured.attrs["measurement"]
    assert_same(found, measured, relative=1e-6)


def test_files_are_read_again_and_figures_take_them(measured, tmp_path):
    cp.save(measured, tmp_path / "mine.nc")
    assert cp.load(tmp_path / "mine.nc").identical(cp.load(str(tmp_path / "mine.nc")))
    assert cp.load(tmp_path / "mine.nc").equals(measured)
    (network,) = figure_networks.read([tmp_path / "mine.nc"])
    assert network.title == "network, own images"
    assert network.has("trained", "none")
    with pytest.raises(ValueError, match=r"NAME\.nc"):
        cp.save(measured, tmp_path / "mine.csv")


def test_provenance_tells_images_and_arguments(measured):
    record = json.loads(measured.attrs["measurement"])
    assert record["settings"]["images"] == P
    other = json.loads(cp.measure(JAX, images(seed=1), name="mine").attrs["measurement"])
    assert record["images"] != other["images"]
    assert "commit" in measured.attrs


def test_nested_names_are_paths_and_tokens_and_vectors_are_layers():
    def function(x):
        tokens = x.reshape(len(x), -1, x.shape[-1])
        return {"block": {"maps": (x, 2 * x)}, "tokens": tokens, "vector": x.mean((1, 2))}

    for one in (function, lambda x: function(np.asarray(x))):
        found = cp.measure(one, images())
        names = ["block/maps/0", "block/maps/1", "tokens", "vector"]
        assert found["layer"].values.tolist() == names
        assert found["R"].sel(layer="tokens").item() == pytest.approx(
            found["R"].sel(layer="block/maps/1").item(), rel=1e-4
        )


@pytest.mark.parametrize("function", [JAX, on_the_host], ids=["jax", "host"])
def test_layers_are_chosen_by_name_and_pattern(function, measured):
    found = cp.measure(function, images(), layers=["linear", "*2"])
    assert found["layer"].values.tolist() == ["conv2", "linear"]
    assert_same(found, measured.sel(layer=["conv2", "linear"]))
    with pytest.raises(ValueError, match="'conv3' matches no layer; the nearest are conv"):
        cp.measure(function, images(), layers=["conv3"])


def batch_normalized(x):
    return {"bn": (x - x.mean(0)) / x.std(0)}


def dropped_out(x):
    """The same mask at every call, as a closure over one key gives it."""
    return {"dropout": x * jax.random.bernoulli(jax.random.key(0), shape=x.shape)}


@pytest.mark.parametrize("function", [batch_normalized, dropped_out])
def test_a_network_in_training_mode_is_noticed(function):
    with pytest.raises(ValueError, match=r"another batch, in (bn|dropout).*training mode"):
        cp.measure(function, images())
    with pytest.raises(ValueError, match="training mode"):
        cp.measure(lambda x: jax.device_get(function(np.asarray(x))), images())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: np.moveaxis(x, -1, 1), ValueError, "axis 1, of length 3, looks like channels"),
        (lambda x: (9 * x).astype(np.uint8), TypeError, "floats, normalized .* got uint8"),
        (lambda x: np.where(x > 2, np.nan, x), ValueError, "NaN or infinite"),
        (lambda x: x[:, :8], ValueError, "square images, got 8 x 12"),
        (lambda x: x[..., 0], ValueError, r"images\[\.\.\., None\]"),
        (lambda x: 0 * x, ValueError, "are the same"),
    ],
)
def test_images_that_are_none_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        cp.measure(JAX, change(images()))


def test_few_images_are_warned_of():
    with pytest.warns(UserWarning, match=r"10 images are few.* P / \(P - 1\) = 1\.111"):
        cp.measure(JAX, images(10))


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: x, TypeError, "no named activations.*cnnpool.torch.features"),
        (lambda x: {}, TypeError, "an empty dict"),
        (lambda x: {"loss": x.sum()}, TypeError, "'loss': expected floats of shape"),
        (lambda x: {"loss": np.asarray(x).sum()}, TypeError, "'loss': expected floats of shape"),
        (3, TypeError, "expected a function"),
        (lambda x: {"y": x @ np.ones((4, 2))}, (TypeError, ValueError), "3.*4|4.*3"),
        (lambda x: {"y": np.asarray(x) @ np.ones((4, 2))}, ValueError, "mismatch"),
    ],
)
def test_what_is_no_network_is_refused(function, error, message):
    with pytest.raises(error, match=message):
        cp.measure(function, images())


def test_kernels_of_a_plain_function_are_not_guessed():
    with pytest.raises(ValueError, match=r"not known; measure cnnpool\.torch"):
        cp.measure(JAX, images(), transforms="channel_shuffle")


def test_sensitivity_takes_an_int_as_its_seed():
    first = cp.sensitivity(JAX, images(), 3)
    assert first == cp.sensitivity(JAX, images(), jax.random.key(3))
    assert first != cp.sensitivity(JAX, images(), 4)


def test_networks_are_named_by_their_function():
    name = json.loads(cp.measure(functools.partial(on_the_host), images()).attrs["config"])
    assert name["model"]["name"] == "on_the_host"


def test_a_plot_has_error_bars_and_labels(measured):
    figure = measured.cnnpool.plot("DR")
    first, second = figure.axes
    assert (first.get_ylabel(), second.get_ylabel()) == ("$D_k$", "$R_k$")
    assert second.get_yscale() == "log"
    (bars,) = first.containers
    line, _, (errors,) = bars.lines
    np.testing.assert_allclose(line.get_xydata()[:, 1], measured["D"].values.ravel())
    low, high = np.array(errors.get_segments())[:, :, 1].T
    np.testing.assert_allclose((high - low) / 2, measured["D_se"].values.ravel(), rtol=1e-6)
    with pytest.raises(ValueError, match="D, G and R"):
        measured.cnnpool.plot("X")
