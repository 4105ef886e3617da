"""All that is measured of the networks of a run, wherever they come from, as one dataset."""

from collections.abc import Sequence
import json

import xarray as xr

from cnnpool.devices import numerics
from cnnpool.files import results
from cnnpool.measuring import inputs, sensitivities, transforms
from cnnpool.measuring.journal import Journal
from cnnpool.measuring.run import Run
from cnnpool.runs import provenance, run_config

VERSION = 2  # of what is measured: raised where the same settings give other numbers


def record(run: Run, stages: Sequence[str], names: Sequence[str]) -> str:
    """What makes two measurements the same, as JSON: networks, images, transforms, settings.

    Args:
      run: that is measured.
      stages: names of stages.
      names: of transforms, as `measure` is given them.

    Raises:
      CheckpointError, ValueError: if a stage is not there.
      PackedError, ImportedError: if such a folder is damaged.
      DataError: if images are not there.
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
    """D, G, R of every unit of every network, and what goes with them on this kind of images.

    Args:
      run: of `runs.open`.
      stages: "init", "trained", "last", epochs, or "all" for every one that is there.
      names: of transforms.
      journal: keeps what is finished, where it is to outlive an interruption.

    Returns:
      What `cnnpool.files.results` describes.

    Raises:
      ValueError: if a transform or stage is unknown, or images or a diffeomorphism are impossible.
      CheckpointError: if a checkpoint is absent, damaged or not trained to the end.
      PackedError, ImportedError: if such a folder is damaged.
      DataError: if the images are absent, damaged or too few.
    """
    made_by = provenance.record()  # before the checkout may change under a long measurement
    measurement, origin = record(run, stages, names), run.origin()
    inputs.check(run.data, run.settings)
    asked = run.stages(stages)
    by_stage = [run.networks(stage) for stage in asked]
    networks = [network for of_seed in zip(*by_stage, strict=True) for network in of_seed]
    parsed = transforms.parse(",".join(names), networks[0].variables.params)
    facts = run.facts(asked)
    arrays = sensitivities.measure(run, networks, parsed, journal)
    attributes = {
        "schema_version": results.SCHEMA_VERSION,
        "config": run_config.to_json(run_config.with_data_dir(run.config, None)),
        "measurement": measurement,
    }
    return facts.merge(arrays, join="exact").assign_attrs(attributes | origin | made_by)
