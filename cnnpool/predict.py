r"""Outputs of a network for a user's own images.

    python -m cnnpool.predict --workdir=runs/vgg16 --images=x.npy --out=logits.npy

The images are (n, height, width, channels): of uint8, which are normalized as those that the
network was trained on, or of floating point, which are taken as normalized already. Writes
(n, outputs), or (seeds, n, outputs) where the folder holds several networks; of a network that ends
with its features, their maps.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from jaxtyping import Float
from ml_collections import ConfigDict
import numpy as np

from cnnpool import command_line, models, run_config, runtime, storage
from cnnpool.atomic_write import write_atomically
from cnnpool.data.arrays import check_images, read_npy
from cnnpool.data.images import standardize
from cnnpool.errors import refuse_unknown
from cnnpool.importing.folder import is_imported
from cnnpool.measuring import image_run, imported_run, prediction
from cnnpool.measuring.stages import TRAINED, parse_stages
from cnnpool.training.image_step import Variables


def predict(
    workdir: Path,
    images: Path,
    *,
    stage: str = "trained",
    batch_size: int = 50,
    data_dir: str | None = None,
) -> Float[np.ndarray, "..."]:
    """Outputs of the networks of a run, a packed folder or an imported network.

    Args:
      workdir: the folder.
      images: an .npy file of (n, height, width, channels).
      stage: "init", "trained", "last" or an epoch.
      batch_size: images at once.
      data_dir: of the training data, instead of the config's `data.data_dir`.

    Raises:
      ValueError: if the images do not fit the network, or it has no such stage.
      CheckpointError, PackedError, ImportedError: if the networks are absent or damaged.
      DataError: if the images, or the data that normalizes them, are absent or damaged.
    """
    given = check_images(read_npy(images), images)
    config = run_config.load(workdir, data_dir=None if is_imported(workdir) else data_dir)
    if not run_config.is_deep(config):
        raise ValueError(f"{workdir} is a run on {config.data.name}; expected deep networks")
    model, networks, normalize = _open(workdir, config, stage)
    ready = normalize(given) if given.dtype == np.uint8 else jnp.asarray(given)
    found = [prediction.predict(model, one, ready, batch_size=batch_size) for one in networks]
    return found[0] if len(found) == 1 else np.stack(found)


def _open(
    workdir: Path, config: ConfigDict, stage: str
) -> tuple[Any, list[Variables], Callable[[np.ndarray], Array]]:
    """Model, networks, and what normalizes stored images."""
    if is_imported(workdir):
        refuse_unknown(stage, [TRAINED], "the stage of an imported network")
        model, variables = imported_run.load(workdir, config)
        mean, std = config.data.mean, config.data.std
        return model, [variables], lambda images: standardize(jnp.asarray(images), mean, std)
    training = image_run.open_training(config, image_noise=False)
    state = image_run.load_stages(workdir, config, [stage], training=training)[stage]
    held = jax.device_get(state.params)
    networks = [
        jax.tree.map(lambda leaf, row=row: jnp.asarray(leaf[row]), held)
        for row in range(len(config.seeds))
    ]
    return (
        models.build(config.model),
        networks,
        lambda images: training.data.normalize(jax.random.key(0), jnp.asarray(images)),
    )


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.predict")
    parser.add_argument(
        "--workdir", type=storage.path, required=True, help="a run, packed or imported"
    )
    parser.add_argument(
        "--images", type=storage.path, required=True, help=".npy, (n, h, w, channels)"
    )
    parser.add_argument("--out", type=storage.path, required=True, help="the .npy file to write")
    parser.add_argument("--stage", default="trained", help="of the networks (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=50, help="images at once (%(default)s)")
    parser.add_argument("--data_dir", help="of the training data, instead of the run's")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    command_line.refuse_existing(args.out, overwrite=args.overwrite, because="not replaced")
    (stage,) = parse_stages(args.stage)
    if args.batch_size < 1:
        raise ValueError(f"--batch_size must be at least 1, got {args.batch_size}")
    runtime.use_compilation_cache()
    options = {"stage": stage, "batch_size": args.batch_size, "data_dir": args.data_dir}
    outputs = predict(args.workdir, args.images, **options)

    def write(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, outputs, allow_pickle=False)

    write_atomically(args.out, write)
    print(f"{outputs.shape} outputs in {args.out}")


if __name__ == "__main__":
    command_line.run(main)
