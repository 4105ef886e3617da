"""Networks to be measured: those of a run, of a packed or of an imported folder.

    run = runs.open(workdir)
    run.networks("trained")  # one per seed

`open` is the only place that decides what a folder is. To add a source of networks, write a
file with a subclass of `cnnpool.measuring.run.Run`, and a line in `open`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from cnnpool.measuring import ring
from cnnpool.measuring.classifier_run import ClassifierRun
from cnnpool.measuring.imported_run import ImportedRun
from cnnpool.measuring.packed_run import PackedRun
from cnnpool.measuring.run import Run
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config
from cnnpool.training import network_folder


def open(
    workdir: Path,
    *,
    data: str | None = None,
    data_dir: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """The networks of a folder.

    Args:
      workdir: a folder written by cnnpool.train, cnnpool.pack or cnnpool.import_weights.
      data: source of the images for an imported network, a name in
        `cnnpool.measuring.measured_data`; other networks are measured on their own data.
      data_dir: replaces the config's `data.data_dir`.
      settings: fields of `Settings` that differ from its defaults.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if these networks do not have what is requested.
    """
    config = run_config.load(workdir, data_dir=data_dir)
    given = dict(settings or {})
    if run_config.is_imported(config):
        return ImportedRun(workdir, _with_data(config, data), Settings(**given))
    if data is not None:
        raise ValueError(
            f"--data={data}: these networks are measured on the data that they were trained on, "
            f"{config.data.name}; an imported network is measured on any images"
        )
    if run_config.is_on_ring(config):
        return ring.open(workdir, config, given)
    kind = PackedRun if network_folder.holds_networks(workdir) else ClassifierRun
    return kind(workdir, config, Settings(**given))


def _with_data(config: ConfigDict, data: str | None) -> ConfigDict:
    """The config with other images; None keeps those that it names."""
    if data is None:
        return config
    copy = config.copy_and_resolve_references()
    copy.data.name = data
    return copy


def check_no_images(workdir: Path, data_dir: str | None) -> None:
    """Raises ValueError if `data_dir` is given for an imported network, where no data is read."""
    if data_dir is not None and run_config.is_imported(run_config.load(workdir)):
        raise ValueError(
            f"expected no --data_dir for {workdir}, an imported network that needs no data here; "
            f"got {data_dir}. Omit --data_dir"
        )


def open_pictures(workdir: Path, *, data_dir: str | None = None) -> Run:
    """Networks on pictures, measured without the training set's image noise.

    Args:
      workdir: as for `open`.
      data_dir: replaces the config's `data.data_dir`.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if the networks are simple CNNs on a ring.
    """
    config = run_config.load(workdir)
    if run_config.is_on_ring(config):
        raise ValueError(f"{workdir} is a run on {config.data.name}; expected networks of pictures")
    return open(workdir, data_dir=data_dir, settings={"image_noise": False})
