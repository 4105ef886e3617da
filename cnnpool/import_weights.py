r"""Makes a network of torchvision from a file of its parameters, for cnnpool.eval and predict.

    python -m cnnpool.import_weights --model=vgg16 --state_dict=vgg16-397923af.pth \
        --workdir=runs/vgg16
    python -m cnnpool.eval --workdir=runs/vgg16 --data_dir=IMAGES --num_images=500 --out=vgg16.nc

Reads what `torch.save(model.state_dict(), FILE)` wrote, and safetensors, whatever the file is
called; neither torch nor any code in the file is run. In a checkpoint of a training program the
state_dict is searched for; --key says which one, where there are several. Parameters of the
features alone give a network that ends with them. --mean and --std are what the network's images
are normalized with, a number a channel, pixels counting from 0 to 1; the defaults are torchvision's
for this file.
"""

from collections.abc import Sequence
import json
from pathlib import Path

from ml_collections import ConfigDict

from cnnpool import command_line
from cnnpool.data import image_folder, preparation
from cnnpool.errors import refuse_unknown
from cnnpool.files import storage
from cnnpool.importing import conversion, folder, state_dict
from cnnpool.importing.unpickling import StateDictError
from cnnpool.models import torchvision
from cnnpool.runs import provenance


def import_weights(
    model: str,
    path: Path,
    workdir: Path,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    overwrite: bool = False,
    key: str | None = None,
) -> conversion.Imported:
    """Makes the folder of one imported network.

    Args:
      model: as torchvision calls it.
      path: of the state_dict.
      workdir: the folder.
      mean: of each channel of the images, pixels counting from 0 to 1; None is torchvision's.
      std: of each channel; None is torchvision's.
      overwrite: replace an imported network.
      key: of the state_dict in its file, "model_ema"; None searches.

    Raises:
      ValueError: if there is no such network, or mean or std is impossible.
      StateDictError: if the file is absent, damaged, or does not fit the network.
      FileExistsError: if the folder holds something else.
    """
    refuse_unknown(model, torchvision.NAMES, "--model")
    image_folder.default_config(mean or preparation.MEAN, std or preparation.STD)  # checks them
    folder.refuse_other(workdir, overwrite=overwrite)
    found = state_dict.find(path, key)
    try:
        imported = conversion.to_network(model, found.state)
    except StateDictError as error:
        raise StateDictError(f"{path}: {error}") from error
    if found.others:
        others = ", ".join(found.others)
        note = f"taken was the state_dict {found.key!r}; others there, for --key: {others}"
        imported = imported._replace(notes=(*imported.notes, note))
    data = image_folder.default_config(mean or imported.mean, std or imported.std)
    folder.write(
        workdir,
        ConfigDict({"seeds": (0,), "model": imported.model, "data": data}),
        imported.variables,
        made_by=json.dumps([provenance.record()], indent=2) + "\n",
        source=f"{path.name}{f', {key}' if key else ''} (sha256 {folder.file_checksum(path)[:12]})",
        notes=imported.notes,
    )
    return imported


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.import_weights")
    names = ", ".join(torchvision.NAMES)
    parser.add_argument("--model", required=True, help=f"one of {names}")
    parser.add_argument("--state_dict", type=storage.on_disk, required=True, help="the file")
    parser.add_argument("--key", help="of the state_dict in the file, model_ema (searched for)")
    parser.add_argument("--workdir", type=storage.path, required=True, help="the folder to make")
    numbers = command_line.numbers(float)
    for name, value in (("mean", preparation.MEAN), ("std", preparation.STD)):
        shown = ",".join(map(str, value))
        parser.add_argument(f"--{name}", type=numbers, help=f"({shown}; of vgg16_features its own)")
    parser.add_argument("--overwrite", action="store_true", help="replace an imported network")
    args = parser.parse_args(argv)
    options = {"mean": args.mean, "std": args.std, "overwrite": args.overwrite, "key": args.key}
    imported = import_weights(args.model, args.state_dict, args.workdir, **options)
    for note in imported.notes:
        print(note)
    outputs = "" if imported.model.features_only else f", {imported.model.outputs} outputs"
    print(f"{args.model}{outputs}, in {args.workdir}")


if __name__ == "__main__":
    command_line.run(main)
