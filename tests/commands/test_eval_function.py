"""`cnnpool.eval --function`: a network of the user's own file, measured as any other one."""

import argparse
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

import numpy as np
from PIL import Image
import pytest
import xarray as xr

import cnnpool as cp
from cnnpool import eval as command
from cnnpool.errors import CnnpoolError
from cnnpool.library import function_run, user_file
from cnnpool.measuring import inputs
from tests.paths import ROOT

# Of images this small, which are measured all the same.
pytestmark = pytest.mark.filterwarnings("ignore:outside T_min:UserWarning")

FILE = '''
"""Networks of a user."""

import os
import time

from flax import linen
import jax
import jax.numpy as jnp
import numpy as np

IMAGE_SIZE = 8
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
KERNEL = jax.random.normal(jax.random.key(0), (3, 3, 3, 4))


def features(x):
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=dimensions)
    return {"conv": y, "pool": y.reshape(len(y), 4, 2, 4, 2, 4).mean((2, 4))}


def on_host(x):
    time.sleep(float(os.environ.get("SECONDS_A_BATCH", 0)))
    with open(os.environ.get("CALLS", os.devnull), "a") as calls:
        calls.write("x")
    x = np.array(x)
    return {"rows": (x + np.roll(x, 1, 1)) / 2, "mean": x.mean((1, 2))}


def make():
    return features


def needs(width):
    return features


class Net:
    def __call__(self, x):
        return {"pool": x.mean((1, 2))}


def nothing():
    return None


def unnamed(x):
    return x.mean((1, 2))


def of_ten_pixels(x):
    return {"flat": x.reshape(len(x), -1) @ jnp.ones((300, 2))}


def in_training(x):
    return {"norm": x - x.mean(0)}


broken = 3
dense = linen.Dense(2)
linear = np.eye(3)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's: my_net.py, and a folder of pictures."""
    root = tmp_path_factory.mktemp("own")
    (root / "my_net.py").write_text(FILE)
    (root / "images").mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        coarse = random.integers(0, 255, (3, 3, 3), np.uint8)
        Image.fromarray(coarse).resize((12, 10)).save(root / "images" / f"{number}.png")
    return root


@pytest.fixture(autouse=True)
def _in_the_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


def words(out, *more, function="my_net.py:features"):
    return [f"--function={function}", "--data_dir=images", "--images=10", f"--out={out}", *more]


def evaluated(out, *more, **options):
    command.main(words(out, *more, **options))
    return cp.load(out)


def of_the_library(name, **options):
    """What `cnnpool.measure` says of the images that the command took."""
    run = function_run.open(
        user_file.parse(f"my_net.py:{name}"), data_dir="images", settings={"images": 10}
    )
    images = np.asarray(inputs.clean_images(run.data, run.settings))
    with pytest.warns(UserWarning, match="10 images are few"):
        return cp.measure(run.found, images, **options)


@pytest.mark.parametrize("name", ["features", "on_host"])
def test_the_numbers_are_those_of_the_library(name, tmp_path):
    """Of the same images, with the same keys, through the same sums: bit for bit."""
    settings = ["--deltas=0.5,1", "--cutoffs=2,3", "--noise=white,luma", "--draws=2"]
    found = evaluated(tmp_path / "a.nc", *settings, function=f"my_net.py:{name}")
    expected = of_the_library(
        name, deltas=(0.5, 1.0), cutoffs=(2, 3), noise=("white", "luma"), draws=2
    )
    assert found["R"].dims == expected["R"].dims
    for variable in ("D", "G", "R", "D_se", "G_se", "R_se", "natural"):
        xr.testing.assert_equal(found[variable], expected[variable])
    assert np.isfinite(found["R"]).all()


def test_images_are_normalized_by_flags_then_by_the_file_then_as_imagenet_s(folder):
    def config(images, file="my_net.py"):
        reference = user_file.parse(f"{file}:features")
        return function_run.open(reference, data_dir="images", images=images).config.data

    assert config({})["mean"] == (0.5, 0.4, 0.3)
    assert (config({}).crop, config({}).resize) == (8, 8)
    given = config({"mean": (0.0, 0.0, 0.0), "image_size": (8, 10)})
    assert (given.mean, given.std) == ((0.0, 0.0, 0.0), (0.2, 0.25, 0.3))
    assert (given.crop, given.resize) == (8, 10)
    (folder / "silent.py").write_text("def features(x):\n    return {'x': x}\n")
    silent = config({}, "silent.py")
    assert (silent.crop, silent.resize, silent.mean[0]) == (224, 256, 0.485)


def test_what_is_done_to_the_images_is_said(tmp_path, capsys):
    evaluated(tmp_path / "a.nc", "--std=0.5,0.5,0.5", function="my_net.py:make()")
    said = capsys.readouterr()
    assert "images: 8 x 8 pixels, (x - mean) / std, mean 0.5 0.4 0.3, std 0.5 0.5 0.5" in said.err
    assert "ImageNet" not in said.err
    assert re.search(r"pool +[0-9]", said.out)
    assert re.search(r"\n\d+ images are few: D and G divide", said.out)


def test_arrays_are_measured_as_they_are(folder, tmp_path):
    (folder / "arrays").mkdir(exist_ok=True)
    pixels = np.random.default_rng(1).random((12, 8, 8, 3), np.float32)
    np.save(folder / "arrays" / "images.npy", pixels)
    found = evaluated(tmp_path / "a.nc", "--data=arrays", "--data_dir=arrays")
    assert found.sizes["layer"] == 2
    with pytest.raises(ValueError, match="--image_size is of pictures"):
        evaluated(tmp_path / "b.nc", "--data=arrays", "--data_dir=arrays", "--image_size=4")


def test_gray_images_have_one_channel(folder, tmp_path):
    (folder / "gray").mkdir()
    pixels = np.random.default_rng(1).integers(0, 255, (12, 8, 8, 1), np.uint8)
    np.save(folder / "gray" / "images.npy", pixels)
    one = {"mean": (0.5,), "std": (0.25,)}
    reference, settings = user_file.parse("my_net.py:on_host"), {"images": 12}
    run = function_run.open(
        reference, data="arrays", data_dir="gray", images=one, settings=settings
    )
    found = np.asarray(run.normalize(run.data.test.images))
    expected = (pixels / 255 - 0.5) / 0.25
    np.testing.assert_allclose(found.mean((1, 2, 3)).sum(), expected.mean((1, 2, 3)).sum(), 1e-5)
    assert found.shape == expected.shape
    colored = function_run.open(reference, data_dir="images", images=one, settings=settings)
    with pytest.raises(CnnpoolError, match="are of gray images, and those of images hav"):
        colored.data  # noqa: B018


def test_networks_of_this_project_are_measured_by_their_folder(folder, tmp_path):
    packed = ROOT / "results" / "checkpoints" / "scale2d-lenet"
    (folder / "ours.py").write_text(
        f"import cnnpool as cp\nIMAGE_SIZE = 8\nnet = cp.open({str(packed)!r}).networks()[0]\n"
    )
    with pytest.raises(user_file.FunctionError, match="scale2d-lenet"):
        evaluated(tmp_path / "a.nc", function="ours.py:net")


def test_a_measurement_that_is_there_is_read_and_a_changed_file_is_another(folder, tmp_path):
    out, text = tmp_path / "a.nc", (folder / "my_net.py").read_text()
    evaluated(out)
    written = out.stat().st_mtime_ns
    evaluated(out)
    assert out.stat().st_mtime_ns == written
    try:
        (folder / "my_net.py").write_text(f"{text}\n# changed\n")
        with pytest.raises(FileExistsError, match="with another measurement"):
            evaluated(out)
    finally:
        (folder / "my_net.py").write_text(text)


SLOW = ("--deltas=0.3,0.5,1", "--batch_size=6")  # 15 batches of 2 images with their two copies


def start(out, seconds="0", calls=os.devnull):
    return subprocess.Popen(
        [sys.executable, "-m", "cnnpool.eval", *words(out, *SLOW, function="my_net.py:on_host")],
        env=os.environ | {"SECONDS_A_BATCH": seconds, "CALLS": calls, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_in_the_middle(out):
    """Leaves at least one finished part, and not all three."""
    parts = out.with_name(f".{out.name}.parts")
    process = start(out, seconds="0.5")
    deadline = time.monotonic() + 120
    whole = "[!.]*.npz"  # a write that is stopped leaves a temporary file, whose name has a dot
    while not list(parts.glob(whole)):
        assert process.poll() is None, process.stderr.read()[-2000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not out.exists()
    found = {path: path.read_bytes() for path in parts.glob(whole)}
    assert 1 <= len(found) < 3
    return found


@pytest.mark.slow
def test_after_sigkill_the_same_command_goes_on_and_ends_with_the_same_numbers(
    tmp_path, monkeypatch
):
    out = tmp_path / "killed.nc"
    kept = kill_in_the_middle(out)
    process = start(out, calls=str(tmp_path / "going on"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "begins anew" not in err
    monkeypatch.setenv("CALLS", str(tmp_path / "whole"))
    whole = evaluated(tmp_path / "whole.nc", *SLOW, function="my_net.py:on_host")
    xr.testing.assert_equal(cp.load(out), whole)
    calls = [len((tmp_path / name).read_text()) for name in ("whole", "going on")]
    # Of a part there are five batches, and one image first, which tells the shapes.
    assert calls[0] - calls[1] == 6 * len(kept)


@pytest.mark.slow
def test_parts_of_another_file_begin_anew_and_it_is_said(folder, tmp_path):
    out, text = tmp_path / "killed.nc", (folder / "my_net.py").read_text()
    kill_in_the_middle(out)
    try:
        (folder / "my_net.py").write_text(f"{text}\n# changed\n")
        process = start(out)
        _, err = process.communicate(timeout=120)
    finally:
        (folder / "my_net.py").write_text(text)
    assert process.returncode == 0, err
    assert "this one begins anew: function.sha256: " in err


ERRORS = {
    "your_net.py:features": "there is no file your_net.py; did you mean my_net.py",
    "my_net.py": "expected FILE.py:NAME, the network or function NAME of a file, or",
    "my_net:features": "expected FILE.py:NAME",
    "my_net.py:featrues": "my_net.py has no 'featrues'; did you mean features",
    "my_net.py:make": r"takes no images; if it returns a network, give --function='my_net.py:make",
    "my_net.py:Net": r"is a class; expected a network: --function='my_net.py:Net\(\)' makes one",
    "my_net.py:needs()": "needs arguments; leave out the parentheses",
    "my_net.py:broken()": "my_net.py:broken cannot be called; leave out the parentheses",
    "my_net.py:broken": "got int",
    "my_net.py:dense": r"which has no parameters; name cnnpool.flax.features\(module, variables",
    "my_net.py:linear": "got ndarray",
    "my_net.py:nothing()": r"my_net.py:nothing\(\) returned None; expected a network",
    "my_net.py:unnamed": r"no named activations: .*name the layers$",
    "my_net.py:of_ten_pixels": r"my_net.py, line \d+\). It was given images of shape \(8, 8, 3\)",
    "my_net.py:in_training": "Is the network in training mode",
}


@pytest.mark.parametrize("function", ERRORS)
def test_what_cannot_be_measured_is_told(function, tmp_path):
    with pytest.raises((user_file.FunctionError, ValueError, OSError), match=ERRORS[function]):
        evaluated(tmp_path / "a.nc", function=function)
    assert not (tmp_path / "a.nc").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import numpy\nimport no_such_module\n", r"ModuleNotFoundError.*bad.py, line 2"),
        ("def f(:\n", r"SyntaxError.*bad.py, line 1"),
        ("raise SystemExit(3)\n", r"SystemExit: 3 \(bad.py, line 1"),
        ("MEAN = 'gray'\nf = abs\n", r"MEAN is 'gray'; expected numbers, as in MEAN = \(0.485"),
        ("MEAN = (120, 110, 100)\nf = abs\n", "Divide by 255"),
    ],
)
def test_a_file_that_raises_is_told_with_its_line(text, said, folder, tmp_path):
    (folder / "bad.py").write_text(text)
    with pytest.raises((user_file.FunctionError, ValueError), match=f"(?s){said}"):
        evaluated(tmp_path / "a.nc", function="bad.py:f")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--transforms=channel_shuffle"], "which parameters of a plain function are kernels"),
        (["--transforms=own_statistics"], "own_statistics"),
        (["--transforms=chanel_shuffle"], "did you mean 'channel_shuffle'"),
        (["--stage=init"], "--stage=init: a network of --function is measured as it is"),
        (["--shuffles=2"], "shuffles nothing"),
        (["--images=13"], "has 12 pictures"),
        (["--image_size=0"], "expected pixels a side"),
        (["--image_size=8,7"], "expected pixels a side"),
        (["--mean=120,110,100"], "Divide by 255"),
        (["--data=tfds"], "expected one of"),
        (["--data_dir=nowhere"], "nowhere does not exist"),
        (["--num_processes=2", "--process_id=0"], "coordinator"),
    ],
)
def test_what_is_impossible_is_refused(more, said, tmp_path):
    with pytest.raises((ValueError, CnnpoolError), match=said):
        evaluated(tmp_path / "a.nc", *more)


def test_flags_of_images_are_of_a_function_alone(tmp_path):
    packed = ROOT / "results" / "checkpoints" / "scale2d-lenet"
    with pytest.raises(ValueError, match="--mean requires --function"):
        command.main([f"--workdir={packed}", "--mean=0,0,0", f"--out={tmp_path / 'a.nc'}"])


def test_several_processes_are_refused():
    with pytest.raises(ValueError, match="expects a single process, got 2"):
        command._own_network(argparse.Namespace(), {}, 2)


def test_a_module_of_pytorch_is_shuffled(folder, tmp_path):
    pytest.importorskip("torch")
    (folder / "torch_net.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "IMAGE_SIZE = 8\ntorch.manual_seed(0)\n"
        "net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(),\n"
        "                    nn.Flatten(), nn.Linear(64, 2))\n"
        "def make():\n    return net\n"
    )
    more = ["--transforms=none,channel_shuffle", "--shuffles=2"]
    found = evaluated(tmp_path / "a.nc", *more, function="torch_net.py:net")
    made = evaluated(tmp_path / "b.nc", *more, function="torch_net.py:make()")
    xr.testing.assert_equal(found, made)
    assert list(found["layer"].values) == ["0", "2", "5"]
    shuffled = found["R"].sel(transform="channel_shuffle", layer="2").squeeze()
    assert np.unique(shuffled[shuffled.notnull()]).size == 2
    assert "spatial_share" in found
    run = function_run.open(
        user_file.parse("torch_net.py:net"), data_dir="images", settings={"images": 10}
    )
    images = np.asarray(inputs.clean_images(run.data, run.settings))
    with pytest.warns(UserWarning, match="few"):
        expected = cp.measure(run.found, images, transforms=("none", "channel_shuffle"), shuffles=2)
    for variable in ("D", "G", "R"):
        xr.testing.assert_equal(found[variable], expected[variable])
    with pytest.raises(ValueError, match="own_statistics"):
        evaluated(tmp_path / "c.nc", "--transforms=own_statistics", function="torch_net.py:net")
    (folder / "torch_net.py").unlink()
    assert Path(tmp_path / "a.nc").exists()


def test_a_device_is_no_place_for_results():
    with pytest.raises(OSError, match="/dev/null is a device or a pipe; expected the name of a"):
        command.main(words(Path("/dev/null")))
