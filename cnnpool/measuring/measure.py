"""Measures all networks of a run, wherever they come from, into one dataset."""

from collections.abc import Sequence
import json
from typing import Any

import xarray as xr

from cnnpool.devices import numerics
from cnnpool.files import results
from cnnpool.measuring import inputs, sensitivities
from cnnpool.measuring.journal import Journal
from cnnpool.measuring.run import Run
from cnnpool.runs import provenance, run_config

VERSION = 2  # version of the measurement, raised when the same settings give different numbers


def record(run: Run, stages: Sequence[str], names: Sequence[str]) -> str:
    """What identifies a measurement, as JSON: networks, images, transforms, settings.

    Args:
      run: the run to measure.
      stages: names of stages.
      names: names of transforms, as passed to `measure`.

    Raises:
      CheckpointError, ValueError: if a stage does not exist.
      NetworkFolderError: if such a folder is damaged.
      DataError: if images are missing.
    """
    fields = run.identity(stages) | {
        "version": VERSION,
        "transforms": list(names),
        "settings": run.settings.record(),
    }
    return json.dumps(numerics.recorded(fields), sort_keys=True)


def measure(
    run: Run, stages: Sequence[str], names: Sequence[str], journal: Journal | None = None
) -> xr.Dataset:
    """D, G, R of every unit of every network, and further quantities for this kind of images.

    Args:
      run: a run from `runs.open`.
      stages: "init", "trained", "last", epochs, or "all" for every existing one.
      names: names of transforms.
      journal: stores finished parts if they must survive an interruption.

    Returns:
      The dataset that `cnnpool.files.results` describes.

    Raises:
      ValueError: if a transform or stage is unknown, or images or a diffeomorphism are impossible.
      CheckpointError: if a checkpoint is missing, damaged or not trained to the end.
      NetworkFolderError: if such a folder is damaged.
      DataError: if the images are missing, damaged or too few.
    """
    # Before the measurement, during which the checkout may change.
    attributes = file_attributes(run, record(run, stages, names))
    inputs.check(run.data, run.settings)
    asked = run.stages(stages)
    by_stage = [run.networks(stage) for stage in asked]
    networks = [network for of_seed in zip(*by_stage, strict=True) for network in of_seed]
    parsed = run.parsed(names, networks)
    facts = run.facts(asked)
    arrays = sensitivities.measure(run, networks, parsed, journal)
    return facts.merge(arrays, join="exact").assign_attrs(attributes)


def file_attributes(run: Run, measurement: str) -> dict[str, Any]:
    """The attributes of a result file: what was measured, where it comes from, by what program.

    Args:
      run: the run that is measured.
      measurement: what identifies the measurement, as JSON.
    """
    about = {
        "schema_version": results.SCHEMA_VERSION,
        "config": run_config.to_json(run_config.with_data_dir(run.config, None)),
        "measurement": measurement,
    }
    return about | run.origin() | provenance.record()
