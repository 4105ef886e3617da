"""Makes the figures of deep networks: trains what is missing, measures, draws."""

from collections.abc import Sequence
from pathlib import Path

from cnnpool import run_config, runtime
from cnnpool.data.images import DataError
from cnnpool.eval import evaluate
from cnnpool.figures import __main__ as figures
from cnnpool.training import image_loop, packed
from cnnpool.training.checkpoints import CheckpointStore
from cnnpool.training.image_progress import ImageProgress
from cnnpool.training.loop import checkpoint_directory
from launch.deep_runs import CIFAR10, ITEMS, Run

STAGES, TRANSFORMS = ("init", "trained"), ("none", "channel_shuffle")
PACKED = Path("results/checkpoints")


def trained_networks(run: Run, preset: str, *, runs: Path) -> Path:
    """Where the trained networks of a run are, which is trained if they are nowhere.

    Looked for, in this order, are the whole protocol's run and packed networks and, for the preset
    "cpu", the shortened one's.

    Args:
      run: which networks.
      preset: "paper" or "cpu".
      runs: the folder of all runs.
    """
    names = list(dict.fromkeys([run.name("paper"), run.name(preset)]))
    for name in names:
        if _is_finished(runs / name):
            return runs / name
        if packed.is_packed(PACKED / name):
            return PACKED / name
    workdir = runs / run.name(preset)
    config = run.config(preset)
    print(f"training {len(config.seeds)} x {run.model} on {run.data} in {workdir}")
    runtime.use_compilation_cache()
    image_loop.train(config, workdir)
    return workdir


def _is_finished(workdir: Path) -> bool:
    directory = checkpoint_directory(workdir)
    if not directory.exists():
        return False
    epochs = run_config.load(workdir).training.epochs
    with CheckpointStore(directory, read_only=True, progress_type=ImageProgress) as store:
        return epochs in store.epochs


def measured(
    run: Run, preset: str, *, runs: Path, measurements: Path, data_dir: str | None, overwrite: bool
) -> Path:
    """The file of a run's measurement, which is made if it is not there."""
    workdir = trained_networks(run, preset, runs=runs)
    file = measurements / f"{workdir.name}.nc"
    print(f"measuring {workdir} into {file}")
    evaluate(
        workdir,
        file,
        stages=STAGES,
        transforms=TRANSFORMS,
        overwrite=overwrite,
        data_dir=data_dir if run.data == CIFAR10 else None,
    )
    return file


def reproduce(
    item: str,
    preset: str,
    *,
    runs: Path,
    measurements: Path,
    out: Path,
    data_dir: str | None,
    overwrite: bool,
) -> Sequence[Path]:
    """One figure; networks whose data is not there are left out and named.

    Args:
      item: a key of `launch.deep_runs.ITEMS`.
      preset: "paper" or "cpu".
      runs: holds the working directories.
      measurements: gets a file a network, shared by all items.
      out: the picture.
      data_dir: TFDS's folder.
      overwrite: replace files that hold another measurement.

    Returns:
      The files that the figure was drawn from.

    Raises:
      DataError: if no network's data is there.
    """
    files, missing = [], []
    for run in ITEMS[item]:
        try:
            files.append(
                measured(
                    run,
                    preset,
                    runs=runs,
                    measurements=measurements,
                    data_dir=data_dir,
                    overwrite=overwrite,
                )
            )
        except DataError as error:
            missing.append(f"{run.name(preset)}: {error}")
    if not files:
        raise DataError("\n".join(missing))
    print(f"drawing {out}")
    figures.make(item, files, out)
    for text in missing:
        print(f"left out {text}")
    return files
