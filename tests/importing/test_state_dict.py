"""Where the state_dict is in what training programs write."""

import gzip
import shutil
import tarfile

import numpy as np
import pytest
import safetensors.numpy

from cnnpool.importing import pth, state_dict
from cnnpool.importing.stand_ins import stand_in
from cnnpool.importing.unpickling import StateDictError
from tests.paths import GOLDENS

FOLDER = GOLDENS / "pth"
NET = {"features.0.weight": np.ones(3, np.float32), "features.0.bias": np.zeros(1, np.float32)}
AVERAGE = {name: array + 1 for name, array in NET.items()}
OPTIMIZER = {"state": {0: {"exp_avg": np.ones(3), "step": np.array(1.0)}}, "param_groups": []}
SCORES = {"best_model_score": np.array(0.5), "kth_value": np.array(1.0)}


def holding(value, tmp_path, monkeypatch):
    """A path at which `pth.read` finds `value`."""
    (tmp_path / "a.pth").write_bytes(b"PK")
    monkeypatch.setattr(pth, "read", lambda path: value)
    return tmp_path / "a.pth"


@pytest.mark.parametrize(
    "value",
    [NET, *({prefix + k: v for k, v in NET.items()} for prefix in ("module.", "net.model."))],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: net,
        lambda net: {"state_dict": net, "epoch": 3, "optimizer": OPTIMIZER},
        lambda net: {"epoch": 3, "model_ema": net, "optimizer": OPTIMIZER, "best": SCORES},
        lambda net: {"network": net, "args": stand_in("argparse", "Namespace")()},
        lambda net: {"ema": {"state_dict": net, "decay": 0.9}},
        lambda net: {"model": {"state_dict": net}},
        lambda net: [net, 3],
        lambda net: [3, {"net_g": net}, OPTIMIZER],
        lambda net: net | {"_extra_state": None},
        lambda net: {"model": stand_in("yolo", "Model")(), "weights": net, "step": np.array(3)},
    ],
)
def test_it_is_found_whatever_lies_around_it(value, wrap, tmp_path, monkeypatch):
    found = state_dict.read(holding(wrap(value), tmp_path, monkeypatch))
    assert found.keys() == NET.keys()
    assert all(found[name] is array for name, array in zip(NET, value.values(), strict=True))


def test_of_several_the_usual_one_is_taken_or_a_key_is_asked_for(tmp_path, monkeypatch):
    path = holding({"model": NET, "model_ema": AVERAGE}, tmp_path, monkeypatch)
    found = state_dict.find(path)
    assert (found.state, found.key, found.others) == (NET, "model", ("model_ema",))
    assert state_dict.find(path, "model_ema").state is not NET
    assert state_dict.find(path, "model_ema").state["features.0.bias"][0] == 1
    with pytest.raises(
        StateDictError, match=r"no state_dict 'ema'; .*--key=model, --key=model_ema"
    ):
        state_dict.find(path, "ema")
    path = holding({"params": NET, "params_ema": AVERAGE}, tmp_path, monkeypatch)
    with pytest.raises(StateDictError, match=r"'params', 'params_ema'; .*--key=params, --key="):
        state_dict.read(path)


def test_a_tensor_that_is_not_read_is_not_left_out(tmp_path, monkeypatch):
    odd = stand_in("torch._utils", "_rebuild_sparse_tensor")()
    path = holding(NET | {"fc.weight": odd}, tmp_path, monkeypatch)
    with pytest.raises(StateDictError, match=r"fc\.weight is stored by torch\._utils\."):
        state_dict.read(path)


@pytest.mark.parametrize("name", ["training_zip.pth", "training_legacy.pth"])
def test_a_checkpoint_of_a_training_program(name):
    with pytest.raises(StateDictError, match=r"argparse.Namespace(.|\n)*--key=network"):
        state_dict.read(FOLDER / name)
    for key, weight in {"network": 1, "average": 0}.items():
        found = state_dict.find(FOLDER / name, key).state
        assert found.keys() == {"weight", "bias"}
        np.testing.assert_array_equal(found["weight"], np.full((2, 3), weight))


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "file.safetensors"])
@pytest.mark.parametrize(
    "called", ["best.pth.tar", "last.ckpt", "weights", "A.PTH", "a.safetensors"]
)
def test_a_file_is_known_by_its_content(name, called, tmp_path):
    if name.endswith(".pth"):
        shutil.copy(FOLDER / name, tmp_path / called)
    else:
        safetensors.numpy.save_file({"float32": np.ones(2)}, tmp_path / called)
    assert "float32" in state_dict.read(tmp_path / called)


@pytest.mark.parametrize("length", [128, 0x4B50])
def test_safetensors_are_known_whatever_the_length_of_their_header_is(length, tmp_path):
    """It stands in front, and these begin as a pickle and a zip archive do."""
    path, weight = tmp_path / "a.safetensors", np.arange(3.0)
    entry = '{"weight":{"dtype":"F64","shape":[3],"data_offsets":[0,24]}}'
    path.write_bytes(length.to_bytes(8, "little") + entry.ljust(length).encode() + weight.tobytes())
    assert path.read_bytes().startswith((b"\x80", b"PK"))
    np.testing.assert_array_equal(state_dict.read(path)["weight"], weight)


def test_numbers_of_eight_bits_are_not_called_damage(tmp_path):
    entry = b'{"weight":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}} '
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(entry).to_bytes(8, "little") + entry + bytes(8))
    with pytest.raises(StateDictError, match=r"numbers of an unsupported type \(.*float8"):
        state_dict.read(path)


def test_files_that_stand_for_others_say_what_to_do(tmp_path):
    pointer = tmp_path / "pointer.pth"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    page = tmp_path / "page.safetensors"
    page.write_text("<!DOCTYPE html>")
    packed = tmp_path / "a.pth.gz"
    packed.write_bytes(gzip.compress(b"PK"))
    with tarfile.open(tmp_path / "a.pth.tar", "w") as archive:
        archive.add(pointer)
    for path, message in {
        pointer: "pointer.pth is a Git LFS pointer; .*git lfs pull",
        page: "web page",
        packed: "gunzip",
        tmp_path / "a.pth.tar": "is a tar archive; unpack it",
        tmp_path: "is a folder",
    }.items():
        with pytest.raises(StateDictError, match=message):
            state_dict.read(path)


def test_a_tensor_alone_is_no_state_dict(tmp_path, monkeypatch):
    path = holding(np.ones((2, 3)), tmp_path, monkeypatch)
    with pytest.raises(StateDictError, match="contains a single tensor; expected a state_dict"):
        state_dict.read(path)
