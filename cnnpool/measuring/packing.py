"""Packs the best networks of a run into a small folder."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from cnnpool.devices import numerics
from cnnpool.measuring import runs
from cnnpool.measuring.classifier_run import ClassifierRun, network_epochs
from cnnpool.measuring.names import TRAINED
from cnnpool.measuring.packed_run import summary_row
from cnnpool.training import network_folder
from cnnpool.training.network_folder import NetworkFolderError
from cnnpool.training.variables import Variables


def pack(workdir: Path, out: Path, *, data_dir: str | None = None, overwrite: bool = False) -> dict:
    """Packs the best networks of a finished run; returns the contents of summary.json.

    Raises:
      ValueError, CheckpointError: if the run is not of classifiers, not trained to the end, or
        damaged, or JAX settings would change the numbers.
      FileExistsError: if `out` holds something else.
      NetworkFolderError: if a value does not fit into float16.
    """
    numerics.check_settings()
    network_folder.check_holds_no_run(out)
    run = runs.open(workdir, data_dir=data_dir)
    if not isinstance(run, ClassifierRun):
        raise ValueError(
            f"{workdir} is a run on {run.config.data.name}; expected classifiers of pictures that "
            "cnnpool.train trained"
        )
    state = run.state(TRAINED)
    half = rounded(jax.device_get(state.networks), run.config.seeds)
    again = jax.tree.map(lambda a: a.astype(np.float32), half)
    found = run.evaluate(again, network_epochs(state, TRAINED))
    rows = [
        summary_row(progress, float(one.error))
        for progress, one in zip(state.progress, found, strict=True)
    ]
    return network_folder.write(
        out,
        run.config,
        half,
        image_shape=run.data.test.images.shape[1:],
        seeds=rows,
        made_by=(workdir / network_folder.PROVENANCE).read_text("utf-8"),
        overwrite=overwrite,
        epoch=state.epoch,
        training_seconds=state.seconds,
        data_source=run.data.source,
    )


def rounded(networks: Variables, seeds: Sequence[int]) -> Variables:
    """The networks in float16, the seed axis first.

    Raises:
      NetworkFolderError: if a value does not fit; the message names its array.
    """
    limit = float(np.finfo(np.float16).max)
    for name, array in network_folder.named_arrays(networks, seeds).items():
        largest = np.abs(array).max(initial=0)
        if not largest <= limit:
            raise NetworkFolderError(
                f"{name} has a value of size {largest:.4g}; expected at most {limit:.0f}, the "
                "largest of float16. These networks cannot be packed; cnnpool.export writes "
                "float32"
            )
    return jax.tree.map(lambda a: np.asarray(a).astype(np.float16), networks)
