"""Packs the best networks of a run into a small folder."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from cnnpool.devices import numerics
from cnnpool.measuring import runs
from cnnpool.measuring.classifier_run import ClassifierRun, network_epochs
from cnnpool.measuring.names import TRAINED
from cnnpool.training import packed


def pack(workdir: Path, out: Path, *, data_dir: str | None = None, overwrite: bool = False) -> dict:
    """Packs the best networks of a finished run; returns the contents of summary.json.

    Raises:
      ValueError, CheckpointError: if the run is not of classifiers, not trained to the end, or
        damaged, or JAX settings would change the numbers.
      FileExistsError: if `out` holds something else.
      PackedError: if a value does not fit into float16.
    """
    numerics.check_settings()
    packed.check_is_no_run(out)
    run = runs.open(workdir, data_dir=data_dir)
    if not isinstance(run, ClassifierRun):
        raise ValueError(
            f"{workdir} is a run on {run.config.data.name}; expected classifiers of pictures that "
            "cnnpool.train trained"
        )
    state = run.state(TRAINED)
    half = packed.rounded(jax.device_get(state.networks), run.config.seeds)
    again = jax.tree.map(lambda a: a.astype(np.float32), half)
    found = run.evaluate(again, network_epochs(state, TRAINED))
    return packed.write(
        out,
        run.config,
        state=dataclasses.replace(state, networks=half),
        rounded_errors=[float(one.error) for one in found],
        data=run.data,
        trained_by=(workdir / "provenance.json").read_text("utf-8"),
        overwrite=overwrite,
    )
