"""Figures of torchvision's networks, from files of weights and pictures."""

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy

from cnnpool.data.images import DataError
from cnnpool.files import results
from cnnpool.launch import imagenet_items, reproduce
from cnnpool.measuring import spectra
from tests.importing.test_import_weights import save_pictures
from tests.models.test_torchvision_parity import FOLDER
from tests.oracles import torchvision_inputs


def save_weights(where, name, file):
    golden = np.load(FOLDER / f"{name}.npz")
    arrays = torchvision_inputs.state_dict_arrays(name, "random", golden["keys"], golden["shapes"])
    where.mkdir(exist_ok=True)
    safetensors.numpy.save_file({k: a.astype(np.float32) for k, a in arrays}, where / file)


@pytest.mark.slow
def test_a_figure_is_made_from_weights_and_pictures(tmp_path, capsys):
    save_weights(tmp_path / "weights", "alexnet", "alexnet-owt-0123abcd.safetensors")
    save_pictures(tmp_path / "pictures", 3)
    command = ["--preset=imagenet", f"--weights={tmp_path / 'weights'}", "--num_images=3"]
    command += [f"--images={tmp_path / 'pictures'}", "--shuffles=1", f"--runs={tmp_path / 'runs'}"]
    command += [f"--measurements={tmp_path / 'networks'}"]
    reproduce.main(["fig7", *command, f"--out={tmp_path / 'fig7'}"])
    rows = (tmp_path / "fig7" / "fig7.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 * 8, "8 layers at initialization, trained, and shuffled in two ways"
    assert (tmp_path / "fig7" / "fig7.png").stat().st_size > 0

    before = (tmp_path / "networks" / "imagenet-alexnet.nc").stat().st_mtime_ns
    reproduce.main(["fig10", *command, f"--out={tmp_path / 'fig10'}"])
    assert (tmp_path / "networks" / "imagenet-alexnet.nc").stat().st_mtime_ns == before
    curves = set(pd.read_csv(tmp_path / "fig10" / "fig10.csv").curve)
    assert curves == {"random filters", "initialization", "trained"}
    assert "drawn: AlexNet, pictures, 1 network, imported" in capsys.readouterr().out
    measured = results.read(tmp_path / "networks" / "imagenet-alexnet.nc")
    fan_in = 11 * 11 * 3
    assert float(measured.gamma_random.sel(layer="conv01")) == pytest.approx(1 / (3 * fan_in))

    with pytest.raises(DataError, match=r"skipped vgg13: expected one file vgg13-\*\.pth"):
        reproduce.main(["fig9", *command, f"--out={tmp_path / 'fig9'}"])


def test_random_filters_of_torchvision_are_he_s():
    """A large layer drawn by the rule: variance 2 / fan-out, a mode's power to 5 errors."""
    shape = (3, 3, 8, 64)
    rng = np.random.default_rng(0)
    weights = rng.normal(0, np.sqrt(2 / (9 * 64)), shape)
    power = spectra.filter_spectrum.spectrum(weights)
    expected = spectra.torchvision_power(shape)
    assert (abs(power.power - expected) < 5 * power.power_se).all()


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ((), "vgg11", "found nothing"),
        (("vgg11.pth", "vgg11-8a719046.pth"), "vgg11", "found vgg11-8a719046.pth, vgg11.pth"),
        (("vgg11_bn-6002323d.pth", "vgg11.txt"), "vgg11", "found nothing"),
    ],
)
def test_weights_are_found_by_torchvision_s_names(tmp_path, files, name, message):
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=message):
        imagenet_items.weights_file(tmp_path, name)
    (tmp_path / "vgg16-397923af.pth").touch()
    assert imagenet_items.weights_file(tmp_path, "vgg16").name == "vgg16-397923af.pth"


@pytest.mark.parametrize(
    "flags",
    [
        ["fig2", "--preset=imagenet", "--weights=w"],
        ["fig9", "--preset=cpu"],
        ["fig4", "--preset=imagenet", "--weights=w"],
        ["fig2", "--preset=imagenet"],
        ["fig2", "--weights=w"],
    ],
)
def test_flags_that_do_not_fit_end_the_command(flags):
    with pytest.raises(SystemExit):
        reproduce.main(flags)
