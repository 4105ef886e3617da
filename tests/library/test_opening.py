"""Packed folders, working directories and imported networks, opened in Python."""

import numpy as np
import pytest
import safetensors.numpy

import cnnpool as cp
from cnnpool.importing import weights
from cnnpool.measuring import evaluation
from cnnpool.measuring.inputs import chosen_images
from cnnpool.measuring.settings import Settings
from tests import classifier_runs
from tests.library.networks import assert_same, images
from tests.oracles import torchvision_inputs
from tests.paths import GOLDENS, ROOT

PACKED = ROOT / "results" / "checkpoints"
TRANSFORMS = ("none", "channel_shuffle", "channel_shuffle_recalibrated")


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    workdir, _ = classifier_runs.vgg(tmp_path_factory.getbasetemp())
    return cp.open(workdir, data_dir=classifier_runs.moved_data(workdir))


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A ResNet18 of torchvision's, and its state_dict."""
    where = tmp_path_factory.mktemp("opened")
    with np.load(GOLDENS / "torchvision" / "resnet18.npz") as golden:
        arrays = torchvision_inputs.state_dict_arrays(
            "resnet18", "random", golden["keys"], golden["shapes"]
        )
        state = {k: a.astype(np.float32) if a.dtype == np.float64 else a for k, a in arrays}
    safetensors.numpy.save_file(state, where / "resnet18.safetensors")
    weights.import_weights("resnet18", where / "resnet18.safetensors", where / "run")
    return cp.open(str(where / "run")), state


def test_a_packed_network_knows_its_images_and_units():
    run = cp.open(PACKED / "scale2d-lenet")
    networks = run.networks()
    assert [one.seed for one in networks] == list(run.config.seeds)
    x = run.normalize(run.test_images[:256])
    found = networks[0].activations(x)
    assert list(found)[:3] == ["conv01", "relu01", "pool01"]
    output = np.asarray(list(found.values())[-1])[:, 0]
    # The packed network is wrong on 5 % of 4096 test images.
    assert np.mean(output * run.test_labels[:256] <= 0) < 0.12


def test_a_packed_network_needs_no_data():
    (network, *_) = cp.open(PACKED / "cifar10-lenet").networks()
    found = network(np.zeros((2, 32, 32, 3), np.float32))
    assert found["linear05"].shape == (2, 10)


@pytest.mark.slow
def test_numbers_are_those_of_eval(vgg, tmp_path):
    """Of both networks, before and after training, shuffled, at the same images."""
    settings = Settings(images=24, shuffles=2, image_noise=False)
    given = {"images": 24, "shuffles": 2, "image_noise": False}
    theirs = evaluation.evaluate(
        vgg.folder,
        tmp_path / "theirs.nc",
        stages=("init", "trained"),
        transforms=TRANSFORMS,
        settings=given,
        data_dir=vgg.config.data.data_dir,
    )
    stored = vgg.test_images[chosen_images(settings, len(vgg.test_images))]
    x = np.asarray(vgg.normalize(stored))
    for stage in ("init", "trained"):
        network = vgg.networks(stage)[1]
        with pytest.warns(UserWarning, match="24 images are few"):
            ours = cp.measure(network, x, transforms=TRANSFORMS, shuffles=2, stage=stage)
        assert ours["seed"].item() == 3
        np.testing.assert_array_equal(ours["depth"], theirs["depth"])
        cell = theirs.sel(seed=[3], stage=[stage])
        # One CPU device instead of eight: other references, for errors to some percent.
        for name in ("D", "G", "R", "spatial_share"):
            np.testing.assert_allclose(ours[name], cell[name], rtol=1e-3, atol=1e-6)
        for name in ("D_se", "G_se", "R_se"):
            np.testing.assert_allclose(ours[name], cell[name], rtol=0.1)


def test_stored_images_are_normalized_by_the_network(vgg):
    network, stored = vgg.networks()[0], vgg.test_images[:3]
    assert stored.dtype == np.uint8
    ours, theirs = network.activations(stored), network.activations(vgg.normalize(stored))
    for name, f in ours.items():
        np.testing.assert_array_equal(f, theirs[name])


def test_units_and_transforms_are_chosen_by_name(vgg):
    network = vgg.networks()[0]
    x = np.asarray(vgg.normalize(vgg.test_images[:4]))
    assert list(network.only(["conv01", "linear*"])(x)) == ["conv01", "linear09"]
    with pytest.raises(ValueError, match="did you mean"):
        network.parsed(["chanel_shuffle"])
    each = network.parsed(["channel_shuffle_each"])
    assert each[0] == "channel_shuffle:conv02"


@pytest.mark.slow
def test_an_imported_network_is_that_of_pytorch(imported):
    """The same state_dict through `import_weights` and as a module, unit by unit."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.oracles import torchvision_networks

    run, state = imported
    module = torchvision_networks.build("resnet18")
    module.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    unit_of = {
        name: one.unit for name, one in module.named_modules() if name and hasattr(one, "unit")
    }
    x = images(100, size=32)
    names = [name for name, unit in unit_of.items() if "shortcut" not in unit]
    theirs = cp.measure(module, x, layers=names)
    units = [unit_of[str(name).partition(":")[0]] for name in theirs["layer"].values]
    ours = cp.measure(run.networks()[0], x, layers=units)
    assert sorted(ours["layer"].values) == sorted(units)
    assert len(units) > 40
    assert_same(theirs, ours.sel(layer=units), errors=0.02)


def test_an_imported_network_has_no_images_and_two_stages(imported):
    run, _ = imported
    with pytest.raises(ValueError, match="no test images: give your own"):
        run.test_images  # noqa: B018
    with pytest.raises(ValueError, match="holds finished networks alone"):
        run.networks("last")
    black = run.normalize(np.zeros((1, 2, 2, 3), np.uint8))
    mean, std = run.config.data.mean, run.config.data.std
    np.testing.assert_allclose(black[0, 0, 0], -np.array(mean) / np.array(std), rtol=1e-6)


def test_what_is_no_run_of_classifiers_is_refused(tmp_path, tiny_run):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        cp.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a run on scale1d; expected networks of pictures"):
        cp.open(tiny_run)
