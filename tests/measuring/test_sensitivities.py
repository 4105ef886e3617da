"""Measurements of classifiers: their images, frozen statistics, and D, G, R by the oracle."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool import models
from cnnpool.configs import cifar10
from cnnpool.data.images import Split, StandardizedImages, as_stored
from cnnpool.devices import distributed, runtime
from cnnpool.errors import PreemptedError
from cnnpool.files import results
from cnnpool.instruments import batch_plan
from cnnpool.instruments.activations import Rescaled, computed
from cnnpool.instruments.sensitivity import sensitivities
from cnnpool.measuring import batch_statistics, evaluation, runs, transforms
from cnnpool.measuring import network as measuring
from cnnpool.measuring import sensitivities as all_networks
from cnnpool.measuring.classifier_run import open_training
from cnnpool.measuring.imported_run import ImportedRun
from cnnpool.measuring.inputs import check, chosen_images, clean_images, perturbations
from cnnpool.measuring.network_at_stage import NetworkAtStage
from cnnpool.measuring.settings import Settings
from cnnpool.training.variables import Variables
from tests import classifier_runs
from tests.oracles import sensitivity as oracle


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """Working directory of two narrow VGG11-bn, their training's setup and states."""
    workdir, _ = classifier_runs.vgg(tmp_path_factory.getbasetemp())
    run = runs.open(workdir, data_dir=classifier_runs.moved_data(workdir))
    return workdir, run.training, {stage: run.networks(stage) for stage in ("init", "trained")}


def network(vgg, stage, row=0):
    return vgg[2][stage][row].variables


@pytest.fixture(scope="module")
def measured(vgg, tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier") / "vgg.nc"
    settings = {"images": 30, "draws": 2, "deltas": (1.0, 3.0), "shuffles": 2, "batch_size": 75}
    with pytest.warns(UserWarning, match=r"outside T_min..T_max.*delta 3 at cut-off 10"):
        evaluation.evaluate(
            vgg[0],
            out,
            stages=("init", "trained"),
            transforms=("none", "channel_shuffle", "channel_shuffle:conv03"),
            settings=settings | {"cutoffs": (3, 10)},
            data_dir=classifier_runs.moved_data(vgg[0]),
        )
    return results.read(out), Settings(**settings, cutoffs=(3, 10))


def test_a_measurement_asked_to_end_stops_after_a_batch_and_keeps_what_is_whole(
    vgg, tmp_path, monkeypatch
):
    """As one of several joined processes, which ask one another after every call."""
    monkeypatch.setattr(batch_plan, "_CALL_BYTES", 1)  # one batch per call
    monkeypatch.setattr(runtime, "cores", lambda: 1)  # on one device
    answers = iter([False, False, False, False, True])  # three batches a transform
    monkeypatch.setattr(distributed, "preempted", lambda: next(answers))
    with pytest.raises(PreemptedError, match="stopped after 50 of 120 images"):
        evaluation.evaluate(
            vgg[0],
            tmp_path / "vgg.nc",
            stages=("trained",),
            transforms=("none", "channel_shuffle"),
            settings={"images": 30, "batch_size": 30, "shuffles": 1},
            data_dir=classifier_runs.moved_data(vgg[0]),
        )
    assert len(list((tmp_path / ".vgg.nc.parts").glob("*.npz"))) == 1


@pytest.mark.parametrize(
    ("name", "rescaled"),
    [
        ("vgg11_bn", [f"bn{k:02d}" for k in range(1, 9)]),
        ("alexnet", ["dropout06"]),  # dropout05 is that of a flattened map, a unit of its own
        ("resnet18", None),
    ],
)
def test_norms_and_what_does_nothing_are_told_not_computed(name, rescaled):
    """Every batch norm reads a unit; what is told are the activations that it stands for."""
    config = cifar10.get_config("paper").unlock()
    config.model.name, config.model.width_factor = name, 0.25
    model = models.build(config.model)
    images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    initialize = functools.partial(model.init, train=False)
    random = np.random.default_rng(0)

    def drawn(a):  # no vector is 0 or 1, as biases, scales and statistics are at first
        scale = np.sqrt(2 / np.prod(a.shape[:-1]))
        drawn = scale * random.normal(size=a.shape) if a.ndim > 1 else 0.5 + random.random(a.shape)
        return jnp.asarray(drawn, jnp.float32)

    changed = jax.tree.map(drawn, jax.eval_shape(initialize, jax.random.key(1), images))
    net = Variables(changed["params"], changed.get("batch_stats", {}))
    plain = run(measuring.features(model, net), images)
    found = run(measuring.features(model, net, rescaled=True), images)
    told = {unit: f for unit, f in found.items() if isinstance(f, Rescaled)}
    norms = [unit for unit in plain if "bn" in unit]
    assert set(norms) <= told.keys()
    assert rescaled is None or sorted(told) == rescaled
    for unit, f in computed(found).items():
        atol = 1e-5 * float(jnp.abs(plain[unit]).max())
        np.testing.assert_allclose(f, plain[unit], rtol=0, atol=atol, err_msg=unit)


@jax.jit
def run(features, images):
    return features(images)


def test_norms_of_bfloat16_are_computed():
    """They are rounded after they are computed, and that rounding is part of the network."""
    told, computed = told_and_computed("efficientnet_b0", jnp.float32)
    assert any("_bn" in unit for unit in told)
    assert not any("_bn" in unit or "drop" in unit for unit in computed)
    told, computed = told_and_computed("efficientnet_b0", jnp.bfloat16)
    assert any("_bn" in unit for unit in computed)
    assert all("drop" in unit for unit in told)


def told_and_computed(name, dtype):
    """Units of a network that are rescaled ones of others, and all others."""
    config = cifar10.get_config("paper").unlock()
    config.model.name = name
    model = models.build(config.model)

    def features(images):
        variables = model.init(jax.random.key(1), images, train=False)
        net = Variables(variables["params"], variables["batch_stats"])
        return measuring.features(model, net, rescaled=True)(images)

    found = jax.eval_shape(features, jax.ShapeDtypeStruct((2, 32, 32, 3), dtype))
    told = [unit for unit, f in found.items() if isinstance(f, Rescaled)]
    return told, found.keys() - told


def test_noise_has_the_length_of_the_deformation_image_by_image(vgg):
    settings = Settings(images=20, draws=2)
    for kind, inputs in perturbations(vgg[1].data, settings):
        assert kind == (1.0, 3, "white")
        lengths = [
            np.linalg.norm((changed - inputs.clean[None]).reshape(2, 20, -1), axis=-1)
            for changed in (inputs.deformed, inputs.noisy)
        ]
        np.testing.assert_allclose(*lengths, rtol=1e-5)
        assert (lengths[0] > 0).all()
        assert (inputs.deformed[0] != inputs.deformed[1]).any()


def test_noise_of_the_training_set_is_drawn_once_and_then_deformed(vgg):
    settings = Settings(images=20)
    once, again = (clean_images(vgg[1].data, settings) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    chosen = chosen_images(settings, len(vgg[1].data.test.labels))
    plain = vgg[1].data.test.images[chosen]
    assert vgg[1].config.data.image_noise > 0
    without = open_training(vgg[1].config, image_noise=False)
    clean = clean_images(without.data, settings)

    def correlation(images):
        return np.corrcoef(np.ravel(images), np.ravel(plain))[0, 1]

    assert correlation(clean) > 0.9999
    assert correlation(once) < 0.99


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((30, 8, 8, 1)), "all 20 images are the same"),
        (np.random.default_rng(0).random((30, 8, 6, 1)), "of square images, got 8 x 6"),
    ],
)
def test_impossible_measurements_are_refused_at_once(vgg, images, message):
    split = Split(jnp.asarray(images, jnp.float32), jnp.zeros(30, jnp.int32))
    data = dataclasses.replace(vgg[1].data, test=split)
    with pytest.raises(ValueError, match=message):
        check(data, Settings(images=20))


def test_fewer_images_are_the_first_of_more():
    few, many = (chosen_images(Settings(images=n), 64) for n in (10, 40))
    np.testing.assert_array_equal(few, many[:10])
    assert len(set(many.tolist())) == 40


def test_frozen_statistics_are_those_of_the_clean_images(vgg):
    model, clean = vgg[1].recipe.model, clean_images(vgg[1].data, Settings(images=40))
    frozen = batch_statistics.with_frozen_statistics(model, network(vgg, "init"), clean)
    units = run(measuring.features(model, frozen), clean)
    for k in range(1, 9):
        values = np.asarray(units[f"bn{k:02d}"], np.float64)
        values = values.reshape(-1, values.shape[-1])
        # The statistics were taken with biased variances in front and are used with unbiased
        # ones: a factor of sqrt(1 - 1/160) a layer where maps are smallest.
        np.testing.assert_allclose(values.mean(0), 0, atol=0.01)
        np.testing.assert_allclose(values.std(0), 1, rtol=0.015)
    running = run(measuring.features(model, network(vgg, "init")), clean)
    assert abs(float(running["bn01"].mean())) > 1e-2, "the running statistics would do: void"


def test_statistics_batch_by_batch_are_those_of_all_images_at_once(vgg, monkeypatch):
    """Exact moments of the same numbers, but for sums in another order and one difference.

    At once, layers in front are normalized by biased variances, batch by batch by unbiased ones.
    """
    model, clean = vgg[1].recipe.model, clean_images(vgg[1].data, Settings(images=40))
    at_once = batch_statistics.with_frozen_statistics(model, network(vgg, "init"), clean)
    monkeypatch.setattr(batch_statistics, "AT_ONCE", 9 * clean[0].size)  # five batches, one of four
    found = batch_statistics.with_frozen_statistics(model, network(vgg, "init"), clean)
    for k in range(1, 9):
        ours, theirs = (net.batch_stats[f"bn{k:02d}"] for net in (found, at_once))
        spread = np.sqrt(theirs["var"])
        np.testing.assert_allclose(ours["mean"] / spread, theirs["mean"] / spread, atol=0.02)
        np.testing.assert_allclose(ours["var"], theirs["var"], rtol=1e-5 if k == 1 else 0.03)
    units = run(measuring.features(model, found), clean)
    for k in range(1, 9):
        values = np.asarray(units[f"bn{k:02d}"], np.float64).reshape(
            -1, found.batch_stats[f"bn{k:02d}"]["mean"].size
        )
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
        # Unbiased variances of 160 values at least, and eps beside small ones.
        np.testing.assert_allclose(values.std(0), 1, rtol=0.005)


def test_after_recalibration_every_norm_fits_the_shuffled_network(vgg):
    """Before gain and offset it has mean 0 and variance 1 over the clean images."""
    model, trained = vgg[1].recipe.model, network(vgg, "trained")
    [(_, inputs)] = perturbations(vgg[1].data, Settings(images=40))
    key = jax.random.key(0)
    shuffled = transforms.transform_variables("channel_shuffle", trained, key)
    fits = batch_statistics.with_frozen_statistics(model, shuffled, inputs.clean)
    units = run(measuring.features(model, fits), inputs.clean)
    stale = run(measuring.features(model, shuffled), inputs.clean)
    for k in range(1, 9):
        own, old = (plain_norm(fits, found, k) for found in (units, stale))
        # As for frozen statistics; where all inputs of a channel are dead its variance is that
        # of nothing, and eps shows in the others.
        alive = own.std(0) > 0.5
        assert alive.mean() > 0.5
        np.testing.assert_allclose(own.mean(0), 0, atol=0.01)
        np.testing.assert_allclose(own.std(0)[alive], 1, rtol=0.02)
        assert k == 1 or abs(old.mean(0)).max() > 0.03, "the old averages would do: void"
    options = {"untrained": False, "batch_size": 25}
    found = measuring.moments(
        *(model, trained, "channel_shuffle_recalibrated", key, inputs), **options
    )
    expected = measuring.moments(*(model, fits, "none", key, inputs), **options)
    for name, layer in expected.items():
        jax.tree.map(np.testing.assert_array_equal, found[name], layer)


def plain_norm(variables, units, k):
    """Batch norm k before its gain and offset, (entries, channels) in float64."""
    affine = jax.tree.map(np.asarray, variables.params[f"bn{k:02d}"])
    values = (np.asarray(units[f"bn{k:02d}"], np.float64) - affine["bias"]) / affine["scale"]
    return values.reshape(-1, values.shape[-1])


def test_without_batch_norm_a_recalibrated_shuffle_is_not_measured_again(
    tmp_path, monkeypatch, capsys
):
    """It is the plain one, which is said."""
    config = cifar10.get_config("paper").unlock()
    config.model.name = "lenet"
    model = models.build(config.model)
    made = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=False)
    net = NetworkAtStage(0, "trained", False, Variables(made["params"], {}))
    calls = []
    measured = measuring.moments
    monkeypatch.setattr(
        measuring, "moments", lambda *a, **k: calls.append(a[2]) or measured(*a, **k)
    )
    names = ("none", "channel_shuffle_recalibrated", "channel_shuffle", "own_statistics")
    monkeypatch.setattr(ImportedRun, "data", color_images(9))
    run = ImportedRun(tmp_path, config, Settings(images=9, shuffles=2))
    found = all_networks.measure(run, [net], names)
    assert calls == ["none", "channel_shuffle", "channel_shuffle"]
    r = found["R"].values
    np.testing.assert_array_equal(r[0, 0, 1], r[0, 0, 2])
    np.testing.assert_array_equal(r[0, 0, 0], r[0, 0, 3])
    said = capsys.readouterr().err
    assert "channel_shuffle_recalibrated: the network has no batch normalization" in said


def color_images(count):
    """Random images of 32 x 32 pixels and three channels."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3))
    split = Split(jnp.asarray(pixels, jnp.uint8), jnp.zeros(count, jnp.int32))
    return StandardizedImages(
        train=split,
        test=split,
        classes=10,
        source="random",
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        image_noise=0.0,
        random_view=as_stored,
    )


def test_kinds_of_noise_share_their_diffeomorphisms(vgg):
    settings = Settings(images=9, noise=("white", "luma", "chroma"))
    found = dict(perturbations(color_images(9), settings))
    assert [kind.noise for kind in found] == ["white", "luma", "chroma"]
    white, luma, chroma = found.values()
    np.testing.assert_array_equal(white.deformed, chroma.deformed)
    eta = np.asarray(luma.noisy - luma.clean[None], np.float64)
    np.testing.assert_allclose(eta, eta[..., :1].repeat(3, -1), atol=1e-5)
    with pytest.raises(ValueError, match="these images are gray"):
        check(vgg[1].data, settings)
    with pytest.raises(ValueError, match="images are gray, without chroma: leave out --noise"):
        settings.check_unused()


def test_own_statistics_normalize_clean_deformed_and_noisy_images_apart(vgg):
    """As the authors' program does in training mode, at initialization for example."""
    model, start = vgg[1].recipe.model, network(vgg, "init")
    settings = Settings(images=20, draws=2, deltas=(3.0,))
    [(_, inputs)] = perturbations(vgg[1].data, settings)

    def alone(images):
        net = batch_statistics.with_frozen_statistics(model, start, images)
        return run(measuring.features(model, net), images)

    clean = alone(inputs.clean)
    deformed, noisy = (
        [alone(copy) for copy in copies] for copies in (inputs.deformed, inputs.noisy)
    )

    def measured(transform, *, untrained):
        found = measuring.moments(
            *(model, start, transform, jax.random.key(0), inputs),
            untrained=untrained,
            batch_size=25,
        )
        assert sorted(found) == sorted(clean)
        return {unit: sensitivities(found)[unit][:3] for unit in ("bn01", "relu04")}

    own = measured("own_statistics", untrained=True)
    frozen = measured("none", untrained=True)
    for unit, values in own.items():
        of_images = np.asarray(clean[unit], np.float64)
        of_copies = (
            np.stack([np.asarray(copy[unit], np.float64) for copy in copies])
            for copies in (deformed, noisy)
        )
        expected = oracle.all_pairs_sensitivity(of_images, *of_copies)
        np.testing.assert_allclose(values, expected, rtol=1e-4)
        assert min(abs(np.array(values) / frozen[unit] - 1)[:2]) > 1e-3
    assert measured("own_statistics", untrained=False) == own, "whatever the running averages are"


@pytest.mark.parametrize("unit", ["relu01", "bn04", "linear09"])
def test_sensitivities_are_those_of_all_pairs(vgg, measured, unit):
    dataset, settings = measured
    model, variables = vgg[1].recipe.model, network(vgg, "trained", row=1)
    features = measuring.features(model, variables)
    (delta, cutoff, _), inputs = list(perturbations(vgg[1].data, settings))[2]

    def activations(images):
        return np.asarray(run(features, images)[unit], np.float64)

    clean = activations(inputs.clean)
    deformed, noisy = (
        np.stack([activations(copy) for copy in copies])
        for copies in (inputs.deformed, inputs.noisy)
    )
    expected = oracle.all_pairs_sensitivity(clean, deformed, noisy)
    cell = dataset.sel(seed=3, stage="trained", transform="none", shuffle=0, noise="white")
    cell = cell.sel(layer=unit, delta=delta, cutoff=cutoff)
    np.testing.assert_allclose([cell[name] for name in "DGR"], expected, rtol=1e-4)
    errors = oracle.jackknife_errors(clean, deformed, noisy)
    found = [cell[f"{name}_se"] for name in "DGR"]
    # A sketch of relu01 with batches of 15 images; 30 images know a standard error to 13 %.
    np.testing.assert_allclose(found, errors, rtol=0.05)


def test_what_a_file_holds(measured):
    dataset, _ = measured
    inner = ("delta", "cutoff", "noise")
    assert dataset["R"].dims == ("seed", "stage", "transform", "shuffle", "layer", *inner)
    assert dataset["natural"].values.tolist() == [[True, True], [True, False]]
    assert dataset["depth"].sel(layer=["pool01", "linear09"]).values.tolist() == [1, 9]
    assert dataset["depth"].sel(layer=["conv01", "bn01", "relu01"]).isnull().all()
    assert dataset["gamma"].sizes["frequency"] == 9
    assert dataset["gamma"].sel(layer="conv05").notnull().all()
    assert dataset["gamma"].sel(layer="relu05").isnull().all()
    init = dataset["gamma"].sel(stage="init", layer="conv05").mean(("seed", "frequency"))
    np.testing.assert_allclose(init, dataset["gamma_random"].sel(layer="conv05"), rtol=0.1)
    alone = dataset["R"].sel(transform="channel_shuffle:conv03", shuffle=0)
    whole = dataset["R"].sel(transform="none", shuffle=0)
    same = (alone == whole).all(("seed", "stage", *inner))
    assert bool(same.sel(layer="pool02"))
    assert not bool(same.sel(layer="relu03"))
    assert dataset["spatial_share"].dims == ("seed", "stage", "transform", *inner)


@pytest.mark.parametrize(
    ("transform", "kept"),
    [
        ("channel_shuffle", "pool01"),
        ("channel_shuffle:conv03", "pool02"),
        ("mean_channel_filters", ""),
    ],
)
@pytest.mark.parametrize("untrained", [True, False])
def test_units_in_front_of_a_transform_are_taken_from_the_original(
    vgg, monkeypatch, transform, kept, untrained
):
    model, variables = vgg[1].recipe.model, network(vgg, "init" if untrained else "trained")
    _, inputs = next(perturbations(vgg[1].data, Settings(images=9)))
    key = jax.random.key(0)
    options = {"untrained": untrained, "batch_size": 9}
    original = measuring.moments(model, variables, "none", key, inputs, **options)
    whole = measuring.moments(model, variables, transform, key, inputs, **options)
    monkeypatch.setattr(measuring, "WORTH_COMPILING", 0)
    found = measuring.moments(
        model, variables, transform, key, inputs, original=original, **options
    )
    assert list(found) == list(whole)
    taken = [name for name in found if found[name] is original[name]]
    assert (taken[-1] if taken else "") == kept
    for name, layer in whole.items():
        for ours, theirs in zip(found[name], layer, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.max(theirs))
