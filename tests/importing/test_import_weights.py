"""Importing a network of torchvision, measuring it on pictures, and predicting with it."""

import json
import shutil

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
import jax
import ml_dtypes
import numpy as np
from PIL import Image
import pytest
import safetensors.numpy

from cnnpool.configs import cifar10
from cnnpool.data.images import DataError
from cnnpool.files import results
from cnnpool.importing import conversion, state_dict, weights
from cnnpool.importing.unpickling import StateDictError
from cnnpool.instruments.filter_spectrum import spectrum
from cnnpool.measuring import evaluation, exporting, network, packing, run_outputs, runs
from cnnpool.models.torchvision import initialization
from cnnpool.runs import run_config
from cnnpool.runs.run_config import ConfigMismatchError
from cnnpool.training import fit
from cnnpool.training.network_folder import NETWORKS, SUMMARY, NetworkFolderError
from tests.oracles import torchvision_inputs
from tests.paths import GOLDENS

TWO = ("none", "channel_shuffle")
GOLDEN = GOLDENS / "torchvision" / "resnet18.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture(scope="module")
def whole(golden):
    arrays = torchvision_inputs.state_dict_arrays(
        "resnet18", "random", golden["keys"], golden["shapes"]
    )
    return {key: a.astype(np.float32) if a.dtype == np.float64 else a for key, a in arrays}


@pytest.fixture(scope="module")
def imported(whole, tmp_path_factory):
    where = tmp_path_factory.mktemp("imported")
    safetensors.numpy.save_file(whole, where / "resnet18.safetensors")
    weights.import_weights("resnet18", where / "resnet18.safetensors", where / "run")
    return where / "run"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """AlexNet without its classifier, on images of 64 x 64 pixels: soon compiled and measured."""
    where, rng = tmp_path_factory.mktemp("small"), np.random.default_rng(0)
    shapes = {
        0: (64, 3, 11),
        3: (192, 64, 5),
        6: (384, 192, 3),
        8: (256, 384, 3),
        10: (256, 256, 3),
    }
    state = {}
    for number, (outputs, inputs, size) in shapes.items():
        kernel = rng.normal(size=(outputs, inputs, size, size)) / np.sqrt(inputs * size**2 / 2)
        state[f"features.{number}.weight"] = kernel.astype(np.float32)
        state[f"features.{number}.bias"] = np.zeros(outputs, np.float32)
    safetensors.numpy.save_file(state, where / "alexnet.safetensors")
    weights.import_weights("alexnet", where / "alexnet.safetensors", where / "run")
    config = json.loads((where / "run/config.json").read_text())
    config["data"] |= {"resize": 72, "crop": 64}
    (where / "run/config.json").write_text(json.dumps(config))
    return where / "run"


def save_pictures(root, count, *, size=(64, 48), start=0):
    rng = np.random.default_rng(start)
    for number in range(start, start + count):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        (root / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / f"c{number % 2}" / f"{number}.png")


def test_predictions_are_pytorch_s(imported, golden, tmp_path):
    """Float32 against the golden float64; rounding is 5e-7 of the maximum."""
    images = torchvision_inputs.images("resnet18")
    np.save(tmp_path / "x.npy", np.concatenate([images, -images, images]))
    outputs = run_outputs.predict(imported, tmp_path / "x.npy", batch_size=2)
    assert outputs.shape == (3, 1000)
    np.testing.assert_allclose(outputs[0], outputs[2], rtol=1e-5, atol=1e-5)
    assert abs(outputs[0] - outputs[1]).max() > 0.1
    print_ = torchvision_inputs.fingerprint("linear", outputs[:1])
    scale = golden["random_unit_scales"][-1]
    np.testing.assert_allclose(
        print_, golden["random_unit_fingerprints"][-1], atol=1e-5 * scale, rtol=0
    )


def test_uint8_images_are_normalized(imported, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.save(tmp_path / "stored.npy", pixels)
    np.save(tmp_path / "ready.npy", (pixels / 255 - mean) / std)
    stored, ready = (
        run_outputs.predict(imported, tmp_path / f"{n}.npy", batch_size=1)
        for n in ("stored", "ready")
    )
    # Outputs of up to 100 after twenty layers of float32.
    np.testing.assert_allclose(stored, ready, rtol=0, atol=1e-5 * abs(ready).max())


def test_normalized_floats_need_not_be_negative_where_the_mean_is_zero(whole, tmp_path):
    safetensors.numpy.save_file(whole, tmp_path / "a.safetensors")
    unscaled = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    weights.import_weights("resnet18", tmp_path / "a.safetensors", tmp_path / "w", **unscaled)
    np.save(tmp_path / "x.npy", np.full((1, 40, 40, 3), 0.5, np.float32))
    found = run_outputs.predict(tmp_path / "w", tmp_path / "x.npy", batch_size=1)
    assert found.shape == (1, 1000)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.ones((2, 40, 40, 3)), "none of them negative: pixels, it seems. Expected uint8, or"),
        (-np.ones((2, 40, 40)), "holds grey floats"),
        (
            -np.ones((2, 3, 40, 40)),
            r"x.npy has shape .*channels last, 1 or 3 .*come first",
        ),
        (np.zeros((40, 40, 3), np.uint8), "one picture"),
    ],
)
def test_images_that_are_not_the_network_s(imported, tmp_path, images, message):
    np.save(tmp_path / "x.npy", images)
    with pytest.raises(DataError, match=message):
        run_outputs.predict(imported, tmp_path / "x.npy")


@pytest.mark.filterwarnings("ignore:outside T_min:UserWarning")
def test_a_network_is_measured_on_pictures_and_goes_on_where_it_was_stopped(
    small, tmp_path, monkeypatch, capsys
):
    root, out = tmp_path / "pictures", tmp_path / "a.nc"
    save_pictures(root, 6)
    (root / "c0" / "broken.jpg").write_text("no picture")
    given = {
        "stages": ("trained",),
        "transforms": ("none", "channel_shuffle"),
        "settings": {"images": 6, "shuffles": 2},
        "data": "image_folder",
        "data_dir": str(root),
    }
    moments, calls = network.moments, []

    def stopped(*args, **options):
        calls.append(args[2])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return moments(*args, **options)

    target = "cnnpool.measuring.network.moments"
    monkeypatch.setattr(target, stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(small, out, **given | {"settings": {"images": 6, "shuffles": 3}})
    assert not out.exists()
    found = evaluation.evaluate(small, out, **given)
    assert calls == ["none", "channel_shuffle", "channel_shuffle", "channel_shuffle"]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".a")] == []
    again = evaluation.evaluate(small, out, **given)
    assert len(calls) == 4
    assert again.identical(results.read(out))

    monkeypatch.setattr(target, moments)
    fresh = evaluation.evaluate(small, tmp_path / "b.nc", **given)
    np.testing.assert_array_equal(fresh.R, found.R)
    there = found.R.sel(layer="conv01")
    assert bool((there.sel(transform="channel_shuffle") > 0).all())
    assert there.sel(transform="none").notnull().values.ravel().tolist() == [True, False]
    assert "broken.jpg" in found.attrs["unreadable_files"]
    assert "broken.jpg" in capsys.readouterr().err
    with pytest.raises(FileExistsError, match="with another measurement"):
        evaluation.evaluate(small, out, **given | {"settings": {"images": 5}})


@pytest.mark.filterwarnings("ignore:outside T_min:UserWarning")
def test_the_initialization_is_measured_beside_the_trained_network(small, tmp_path, monkeypatch):
    """What was measured of the trained network alone is kept when the stage init is added."""
    save_pictures(tmp_path / "pictures", 3)
    given = {
        "transforms": ("none",),
        "settings": {"images": 3},
        "data": "image_folder",
        "data_dir": str(tmp_path / "pictures"),
    }
    moments, untrained = network.moments, []

    def watched(model, variables, *args, **options):
        untrained.append(options["untrained"])
        if len(untrained) == 2:
            raise KeyboardInterrupt
        return moments(model, variables, *args, **options)

    monkeypatch.setattr("cnnpool.measuring.network.moments", watched)
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(
            small, tmp_path / "a.nc", stages=("trained",), **given | {"transforms": TWO}
        )
    found = evaluation.evaluate(small, tmp_path / "a.nc", stages=("init", "trained"), **given)
    assert untrained == [False, False, True]
    assert list(found.stage.values) == ["init", "trained"]
    assert np.isnan(found.test_error).all()  # without a classifier
    np.testing.assert_array_equal(found.epoch, [0, np.nan])

    run = runs.open(small)
    model, trained = run.model, run.networks("trained")[0].variables
    first = initialization.initialize(model, "torchvision_alexnet", jax.random.key(0), size=64)
    for stage, params in (("init", first["params"]), ("trained", trained.params)):
        power = spectrum(np.asarray(params["conv03"]["kernel"], np.float64)).power
        gamma = found.gamma.sel(stage=stage, layer="conv03")[0]
        np.testing.assert_allclose(gamma[:9], power, rtol=1e-6)
    layer = found.sel(stage="init", layer="conv03").isel(seed=0, frequency=slice(9))
    assert (abs(layer.gamma - layer.gamma_random) < 5 * layer.gamma_se).all()
    assert float(abs(found.R.diff("stage")).sel(layer="conv03").max()) > 1e-3
    with pytest.raises(FileExistsError, match="with another measurement"):
        evaluation.evaluate(small, tmp_path / "a.nc", stages=("trained",), **given)


def test_other_classes_than_the_network_s_give_no_error(imported, tmp_path):
    save_pictures(tmp_path, 4)
    options = {"data": "image_folder", "data_dir": str(tmp_path), "settings": {"images": 4}}
    found = runs.open(imported, **options).facts(["trained"])
    assert np.isnan(found.test_error).all()  # two folders are not a thousand classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": ("last",)}, "holds finished networks alone: .* drawn anew .* got last"),
        ({"data": "image_foldr"}, "did you mean 'image_folder'"),
        (
            {"transforms": ("channel_shuffle:conv99",)},
            "the convolution of channel_shuffle is 'conv99'",
        ),
        ({"settings": {"images": 7}}, "has 6 pictures .* at least --num_images=7"),
        ({"settings": {"images": 6, "noise": ("pink",)}}, "noise 'pink': expected one of white"),
        ({"data_dir": "nowhere"}, "nowhere does not exist"),
    ],
)
def test_what_an_imported_network_cannot_be_asked(imported, change, message, tmp_path):
    save_pictures(tmp_path / "pictures", 6)
    given = {
        "stages": ("trained",),
        "transforms": ("none",),
        "settings": {"images": 6},
        "data": "image_folder",
        "data_dir": str(tmp_path / "pictures"),
    }
    with pytest.raises((ValueError, DataError), match=message):
        evaluation.evaluate(imported, tmp_path / "a.nc", **given | change)


def test_too_few_readable_pictures_are_an_error_with_their_names(imported, tmp_path):
    save_pictures(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "c1" / "bad.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"has 3 readable pictures(.|\n)*c1/bad.png"):
        evaluation.evaluate(
            imported,
            tmp_path / "a.nc",
            stages=("trained",),
            transforms=("none",),
            settings={"images": 4},
            data_dir=str(tmp_path / "pictures"),
        )


def test_features_alone_give_a_features_only_network(whole):
    features = {k: v for k, v in whole.items() if not k.startswith("fc.")}
    found = conversion.to_network("resnet18", features)
    assert found.model.features_only
    assert "linear" not in found.variables.params
    assert any("no outputs" in note for note in found.notes)
    empty = {k: np.full_like(v, np.nan) if k.startswith("fc.") else v for k, v in whole.items()}
    found = conversion.to_network("resnet18", empty)
    assert found.model.features_only
    assert any("are NaN" in note for note in found.notes)


def test_vgg16_features_have_a_normalization_of_their_own(tmp_path):
    with np.load(GOLDEN.with_name("vgg16.npz")) as file:
        shapes = {str(k): s[s > 0] for k, s in zip(file["keys"], file["shapes"], strict=True)}
    state = {k: np.zeros(s, np.float32) for k, s in shapes.items() if k.startswith("features")}
    state["classifier.0.bias"] = np.full(4096, np.nan, np.float32)
    safetensors.numpy.save_file(state, tmp_path / "a.safetensors")
    given = "vgg16", tmp_path / "a.safetensors", tmp_path / "run"
    notes = weights.import_weights(*given, std=(0.5, 0.5, 0.5)).notes
    assert any("0.48235,0.45882,0.40784" in note for note in notes)
    data = run_config.load(tmp_path / "run").data
    assert (data.mean, data.std) == ((0.48235, 0.45882, 0.40784), (0.5, 0.5, 0.5))


def test_a_network_with_other_outputs_keeps_them(whole):
    seven = whole | {"fc.weight": whole["fc.weight"][:7], "fc.bias": whole["fc.bias"][:7]}
    assert conversion.to_network("resnet18", seven).model.outputs == 7


def changed(whole, change):
    key = "layer1.0.conv1.weight"
    return {
        "missing": {k: v for k, v in whole.items() if k != key},
        "extra": whole | {"layer9.weight": whole[key]},
        "transposed": whole | {"fc.weight": whole["fc.weight"].T},
        "renamed": {("x" + k if k == key else k): v for k, v in whole.items()},
        "nan": whole | {key: np.full_like(whole[key], np.nan)},
        "infinite": whole | {"bn1.bias": np.full(64, np.inf, np.float32)},
        "large": whole | {"bn1.bias": np.full(64, 1e39)},
        "integers": whole | {"bn1.bias": np.zeros(64, np.int32)},
        "negative": whole | {"bn1.running_var": -whole["bn1.running_var"]},
        "nothing": {},
    }[change]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"missing: layer1.0.conv1.weight \(64, 64, 3, 3\)"),
        ("extra", r"left over: layer9.weight"),
        ("transposed", r"shape: fc.weight expected \(1000, 512\), got \(512, 1000\)"),
        ("renamed", r"2 tensors do not fit"),
        ("nan", r"layer1.0.conv1.weight has a value of nan"),
        ("infinite", r"bn1.bias has a value of inf"),
        ("large", r"bn1.bias has a value of 1e\+39"),
        ("integers", r"bn1.bias has dtype int32"),
        ("negative", r"bn1.running_var has negative variances"),
        ("nothing", r"tensors do not fit the network"),
    ],
)
def test_tensors_that_do_not_fit_are_named(whole, change, message):
    with pytest.raises(StateDictError, match=message):
        conversion.to_network("resnet18", changed(whole, change))


CHANGES = {
    "renamed": lambda key, a: {f"x{key}": a},
    "dropped": lambda key, a: {},
    "transposed": lambda key, a: {key: a.T},
    "flattened": lambda key, a: {key: a.reshape(-1)},
    "nan": lambda key, a: {key: np.full(a.shape, np.nan, np.float32)},
    "float16": lambda key, a: {key: a.astype(np.float16)},
    "float64": lambda key, a: {key: a.astype(np.float64)},
    "strings": lambda key, a: {key: np.full(a.shape, "a")},
}


@pytest.fixture(scope="module")
def converted(whole):
    """Variables of the network whose tensors are as they were saved."""
    return conversion.to_network("resnet18", whole).variables


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_a_changed_tensor_is_named_or_harmless(whole, converted, data):
    key, change = data.draw(st.sampled_from(sorted(whole))), data.draw(st.sampled_from([*CHANGES]))
    others = {name: array for name, array in whole.items() if name != key}
    state = others | CHANGES[change](key, whole[key])
    try:
        found = conversion.to_network("resnet18", state).variables
    except StateDictError as error:
        found = str(error)
    if isinstance(found, str):
        assert key in found
        return
    for ours, theirs in zip(*map(jax.tree.leaves, (found, converted)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)  # float16 has 11 bits


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_other_precisions_are_read(whole, kind, tmp_path):
    other = {k: v.astype(kind) if v.dtype == np.float32 else v for k, v in whole.items()}
    safetensors.numpy.save_file(other, tmp_path / "a.safetensors")
    read = state_dict.read(tmp_path / "a.safetensors")
    kernel = conversion.to_network("resnet18", read).variables.params["conv01"]["kernel"]
    assert kernel.dtype == np.float32
    expected = whole["conv1.weight"].astype(kind).astype(np.float32).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.parametrize("prefix", ["module.", "model._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_training_programs_are_taken_off(whole, prefix, tmp_path):
    few = {f"{prefix}{k}": v for k, v in list(whole.items())[:3]}
    few["n_averaged"] = np.array(3)
    safetensors.numpy.save_file(few, tmp_path / "a.safetensors")
    assert set(state_dict.read(tmp_path / "a.safetensors")) == set(list(whole)[:3])


def test_a_foreign_prefix_is_seen_and_the_file_named(whole, tmp_path):
    foreign = {f"teacher.{k}": v for k, v in whole.items()}
    safetensors.numpy.save_file(foreign, tmp_path / "a.safetensors")
    message = r"a\.safetensors: .*(.|\n)*missing: .*(.|\n)*left over: teacher\..*(.|\n)*: 9\d more"
    with pytest.raises(StateDictError, match=message):
        weights.import_weights("resnet18", tmp_path / "a.safetensors", tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"short", "cannot be read as safetensors"),
        ("a.safetensors", None, "does not exist"),
        ("a.onnx", b"", "content of one of .safetensors, .pth"),
        ("a.pth", b"text", "cannot be read as a file of torch.save"),
    ],
)
def test_files_that_are_no_state_dict(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(StateDictError, match=message):
        state_dict.read(tmp_path / name)


def test_parameters_are_exported_and_nothing_trains_or_packs_there(imported, whole, tmp_path):
    arrays = exporting.parameter_arrays(imported, "trained")
    expected = whole["layer2.0.downsample.0.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(arrays["seed0/block03/shortcut_conv/kernel"], expected)
    np.testing.assert_array_equal(arrays["seed0/bn01/mean"], whole["bn1.running_mean"])
    with pytest.raises(ValueError, match=r"holds finished networks alone: .* got 1"):
        exporting.parameter_arrays(imported, "1")
    with pytest.raises(ValueError, match="expected classifiers of pictures"):
        packing.pack(imported, tmp_path / "packed")
    with pytest.raises(ConfigMismatchError, match="which cannot be trained"):
        run_config.claim(imported, cifar10.get_config(), has_checkpoints=False)
    with pytest.raises(FileExistsError, match="holds packed or imported networks"):
        fit.train(cifar10.get_config(), imported)


def test_what_cannot_be_imported_leaves_no_folder(whole, tmp_path):
    safetensors.numpy.save_file(whole, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        weights.import_weights("resnet81", tmp_path / "a.safetensors", tmp_path / "b")
    with pytest.raises(ValueError, match="three means"):
        weights.import_weights(
            "resnet18", tmp_path / "a.safetensors", tmp_path / "b", std=(1.0, 1.0, 0.0)
        )
    with pytest.raises(ValueError, match="Divide by 255"):
        weights.import_weights(
            "resnet18", tmp_path / "a.safetensors", tmp_path / "b", mean=(123.7, 116.3, 103.5)
        )
    assert not (tmp_path / "b").exists()


def test_importing_again_changes_nothing_and_others_are_not_replaced(whole, tiny_run, tmp_path):
    safetensors.numpy.save_file(whole, tmp_path / "a.safetensors")
    given = "resnet18", tmp_path / "a.safetensors", tmp_path / "run"
    weights.import_weights(*given)
    files = [*(tmp_path / "run").iterdir()]
    assert len(files) == 4
    with np.load(tmp_path / "run" / NETWORKS, allow_pickle=False) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float32)}
        np.testing.assert_array_equal(file["seed0/bn01/mean"], whole["bn1.running_mean"])
    stamps = {path.name: path.stat().st_mtime_ns for path in files}
    weights.import_weights(*given)
    assert {path.name: path.stat().st_mtime_ns for path in files} == stamps
    with pytest.raises(FileExistsError, match="holds something else; give --overwrite"):
        weights.import_weights(*given, mean=(0.5, 0.5, 0.5))
    weights.import_weights(*given, mean=(0.5, 0.5, 0.5), overwrite=True)
    assert run_config.load(tmp_path / "run").data.mean == (0.5, 0.5, 0.5)
    with pytest.raises(FileExistsError, match="holds a run"):
        weights.import_weights("resnet18", tmp_path / "a.safetensors", tiny_run, overwrite=True)


def test_damage_to_an_imported_network_is_found(imported, tmp_path):
    run = shutil.copytree(imported, tmp_path / "run")
    np.save(tmp_path / "x.npy", np.zeros((2, 40, 40, 3), np.float32))

    def message():
        with pytest.raises(NetworkFolderError) as found:
            run_outputs.predict(run, tmp_path / "x.npy")
        return str(found.value)

    with np.load(run / NETWORKS) as file:
        arrays = dict(file)
    np.savez(run / NETWORKS, **arrays | {"seed0/linear/bias": arrays["seed0/linear/bias"] + 1})
    assert "networks.npz is not the file that summary.json describes" in message()
    (run / SUMMARY).write_text("{}")
    assert "pack or import its networks again" in message()
    shutil.copy(imported / SUMMARY, run)
    (run / NETWORKS).unlink()
    assert "networks.npz does not exist" in message()
    for text in ("{", "{}"):
        (run / "config.json").write_text(text)
        with pytest.raises(run_config.ConfigFileError, match=r"config\.json is damaged"):
            run_outputs.predict(run, tmp_path / "x.npy")


def test_a_folder_of_an_earlier_version_is_imported_again(imported, whole, tmp_path):
    safetensors.numpy.save_file(whole, tmp_path / "a.safetensors")
    run = shutil.copytree(imported, tmp_path / "run")
    (run / NETWORKS).rename(run / "weights.safetensors")
    (run / SUMMARY).write_text('{"source": "a.safetensors", "weights_sha256": "0"}')
    with pytest.raises(NetworkFolderError, match=r"holds weights\.safetensors.*--overwrite$"):
        runs.open(run).networks("trained")
    with pytest.raises(FileExistsError, match="give --overwrite"):
        weights.import_weights("resnet18", tmp_path / "a.safetensors", run)
    weights.import_weights("resnet18", tmp_path / "a.safetensors", run, overwrite=True)
    assert not (run / "weights.safetensors").exists()
    assert runs.open(run).networks("trained")[0].variables.params
