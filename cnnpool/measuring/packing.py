"""Packs the best networks of a deep run into a small folder."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from cnnpool.devices import numerics
from cnnpool.importing.folder import is_imported
from cnnpool.measuring import image_run
from cnnpool.measuring.names import TRAINED
from cnnpool.runs import run_config
from cnnpool.training import packed


def pack(workdir: Path, out: Path, *, data_dir: str | None = None, overwrite: bool = False) -> dict:
    """Packs the best networks of a finished run; returns what summary.json holds.

    Raises:
      ValueError, CheckpointError: if the run is not deep, not trained to the end, or damaged, or
        JAX is set so that other numbers would come out.
      FileExistsError: if `out` holds something else.
      PackedError: if a value does not fit into float16.
    """
    numerics.refuse_others()
    config = run_config.load(workdir, data_dir=data_dir)
    if is_imported(workdir):
        raise ValueError(f"{workdir} holds an imported network; expected a run of cnnpool.train")
    if not run_config.is_deep(config):
        raise ValueError(f"{workdir} is a run on {config.data.name}; expected a deep one")
    packed.refuse_run(out)
    training = image_run.open_training(config)
    state = image_run.load_stages(workdir, config, [TRAINED], training=training)[TRAINED]
    half = packed.rounded(jax.device_get(state.networks), config.seeds)
    again = jax.tree.map(lambda a: a.astype(np.float32), half)
    found = image_run.evaluator(training)(again, image_run.network_epochs(state, TRAINED))
    return packed.write(
        out,
        config,
        state=dataclasses.replace(state, networks=half),
        rounded_errors=[float(one.error) for one in found],
        data=training.data,
        trained_by=(workdir / "provenance.json").read_text("utf-8"),
        overwrite=overwrite,
    )
