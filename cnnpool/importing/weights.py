"""Imports one of torchvision's networks from a file of its parameters."""

from collections.abc import Sequence
import json
from pathlib import Path

import jax
from ml_collections import ConfigDict

from cnnpool.data import image_folder, preparation
from cnnpool.errors import check_known
from cnnpool.files import storage
from cnnpool.importing import conversion, state_dict
from cnnpool.importing.unpickling import StateDictError
from cnnpool.models import torchvision
from cnnpool.runs import provenance
from cnnpool.training import network_folder


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
    """Writes the folder of an imported network.

    Args:
      model: torchvision's name of the network.
      path: the file with the state_dict.
      workdir: the folder to write.
      mean: mean of each channel of the images, for pixels from 0 to 1; None: torchvision's.
      std: standard deviation of each channel; None: torchvision's.
      overwrite: whether to replace other networks in `workdir`.
      key: the state_dict's location in the file, such as "model_ema"; None searches.

    Returns:
      The network, with notes on the conversion.

    Raises:
      ValueError: if the network is unknown, or mean or std is out of range.
      StateDictError: if the file is absent, damaged, or does not fit the network.
      FileExistsError: if `workdir` holds a run, or other networks and `overwrite` is False.
    """
    check_known(model, torchvision.NAMES, "--model")
    image_folder.default_config(mean or preparation.MEAN, std or preparation.STD)  # checks them
    network_folder.check_holds_no_run(workdir)
    found = state_dict.find(path, key)
    try:
        imported = conversion.to_network(model, found.state)
    except StateDictError as error:
        raise StateDictError(f"{path}: {error}") from error
    if found.others:
        others = ", ".join(found.others)
        note = f"used the state_dict {found.key!r}; for others, set --key to one of: {others}"
        imported = imported._replace(notes=(*imported.notes, note))
    data = image_folder.default_config(mean or imported.mean, std or imported.std)
    network_folder.write(
        workdir,
        ConfigDict({"seeds": (0,), "model": imported.model, "data": data}),
        jax.tree.map(lambda a: a[None], imported.variables),
        image_shape=conversion.IMAGE_SHAPE,
        seeds=[{"seed": 0}],
        made_by=json.dumps([provenance.record()], indent=2) + "\n",
        overwrite=overwrite,
        source=f"{path.name}{f', {key}' if key else ''} (sha256 {storage.checksum(path)[:12]})",
        notes=imported.notes,
    )
    return imported
