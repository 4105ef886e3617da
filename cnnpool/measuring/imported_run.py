"""Measurements of one imported network on images of the user's choice.

At the stage "init" it is torchvision's initialization of its architecture, drawn anew from the seed
in its config. What the network was trained from nobody knows.
"""

from collections.abc import Mapping, Sequence
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import xarray as xr

from cnnpool import models
from cnnpool.data.images import MeasuredImages
from cnnpool.devices import numerics
from cnnpool.files import results
from cnnpool.importing import conversion
from cnnpool.importing import folder as imported
from cnnpool.measuring import (
    image_inputs,
    image_sensitivities,
    image_spectra,
    image_transforms,
    prediction,
)
from cnnpool.measuring.image_sensitivities import Network
from cnnpool.measuring.image_settings import Settings
from cnnpool.measuring.journal import Journal
from cnnpool.measuring.measured_data import source
from cnnpool.measuring.names import INIT, TRAINED
from cnnpool.models import torchvision
from cnnpool.models.torchvision import initialization
from cnnpool.runs import provenance, run_config
from cnnpool.training.image_step import Variables
from cnnpool.training.losses import LOSSES

VERSION = 2  # of what is measured: raised where the same settings give other numbers
_PREDICTED = 10  # images at once


def load(workdir: Path, config: ConfigDict) -> tuple[Any, Variables]:
    """Model and variables of an imported network.

    Raises:
      ImportedError: if the folder is damaged.
    """
    return models.build(config.model), imported.load(workdir, config)


def initial(model: Any, config: ConfigDict) -> Variables:
    """The variables of an imported network's architecture before training, from its seed."""
    key = jax.random.key(config.seeds[0])
    found = initialization.initialize(model, config.model.name, key, size=conversion.SIZE)
    return Variables(found["params"], found.get("batch_stats", {}))


def measurement_record(
    workdir: Path,
    config: ConfigDict,
    stages: Sequence[str],
    transforms: Sequence[str],
    settings: Settings,
) -> str:
    """What makes two measurements the same, as JSON: network, stages, images, transforms, settings.

    Raises:
      ValueError: if something is asked for that an imported network does not have.
      ImportedError: if the folder is damaged.
      DataError: if the images are not there.
    """
    _refuse_impossible(stages)
    data = {key: value for key, value in config.data.items() if key != "data_dir"}
    record = {
        "version": VERSION,
        "weights": imported.summary(workdir)["weights_sha256"],
        "stages": list(dict.fromkeys(stages)),
        "seeds": list(config.seeds),
        "data": data | {"images": source(config.data.name).fingerprint(config.data)},
        "transforms": list(transforms),
        "settings": settings.record(),
    }
    return json.dumps(numerics.recorded(record), sort_keys=True)


def _refuse_impossible(stages: Sequence[str]) -> None:
    if not set(stages) <= {INIT, TRAINED}:
        raise ValueError(
            f"an imported network has the stages {INIT!r}, drawn anew, and {TRAINED!r}; got "
            f"{', '.join(stages)}"
        )


def measure_run(
    workdir: Path,
    config: ConfigDict,
    stages: Sequence[str],
    transforms: Sequence[str],
    settings: Settings,
    journal: Journal | None = None,
) -> xr.Dataset:
    """All that is measured of an imported network, as `cnnpool.files.results` lays it out.

    D, G, R of every unit, filter spectra, pooling budget; test error on the images where their
    classes are the network's.

    Args:
      workdir: that cnnpool.import_weights made.
      config: its own, `data.name` and `data.data_dir` as the user wants them.
      stages: "init", "trained" or both.
      transforms: names of `cnnpool.measuring.image_transforms`.
      settings: of the measurement.
      journal: keeps what is finished, where it is to outlive an interruption.

    Raises:
      ValueError: if a transform is unknown, or images or a diffeomorphism are impossible.
      ImportedError: if the folder is damaged.
      DataError: if the images are not there, damaged or too few.
    """
    made_by = provenance.record()
    record = measurement_record(workdir, config, stages, transforms, settings)
    model, trained = load(workdir, config)
    variables = {stage: trained if stage == TRAINED else initial(model, config) for stage in stages}
    names = image_transforms.parse(",".join(transforms), trained.params)
    images = source(config.data.name).build(config.data, count=settings.images, seed=settings.seed)
    image_inputs.check(images, settings)
    networks = [
        Network(config.seeds[0], stage, untrained=stage == INIT, variables=variables[stage])
        for stage in variables
    ]
    default = config.model.name == f"{torchvision.PREFIX}alexnet"
    arrays = image_sensitivities.measure(
        model,
        images,
        networks,
        names,
        settings,
        journal=journal,
        random_power=image_spectra.pytorch_power if default else image_spectra.torchvision_power,
    )
    attributes = {
        "schema_version": results.SCHEMA_VERSION,
        "config": run_config.to_json(run_config.with_data_dir(config, None)),
        "measurement": record,
        "trained_by": f"imported from {imported.summary(workdir)['source']}",
        "data_source": images.source,
        "unreadable_files": json.dumps(images.unreadable),
    }
    errors = _errors(model, variables, config, images)
    return errors.assign(arrays).set_coords("depth").assign_attrs(attributes | made_by)


def _errors(
    model: Any, variables: Mapping[str, Variables], config: ConfigDict, images: MeasuredImages
) -> xr.Dataset:
    """Test error and loss of the trained network; NaN at initialization, and of other classes."""
    error = loss = float("nan")
    outputs, features_only = config.model.outputs, config.model.features_only
    if TRAINED in variables and images.classes == outputs and not features_only:
        logits = prediction.predict(
            model,
            variables[TRAINED],
            images.test.images,
            batch_size=_PREDICTED,
            normalize=lambda batch: images.normalize(jax.random.key(0), jnp.asarray(batch)),
        )
        loss_of = LOSSES["cross_entropy"]
        labels = jnp.asarray(images.test.labels)
        error = float(loss_of.wrong(jnp.asarray(logits), labels).mean())
        loss = float(loss_of.values(jnp.asarray(logits), labels).mean())
    per_network = ("seed", "stage")
    unknown = [np.nan for _ in variables]

    def of_trained(value: float) -> list[float]:
        return [value if stage == TRAINED else np.nan for stage in variables]

    return xr.Dataset(
        {
            "test_error": (per_network, [of_trained(error)]),
            "test_loss": (per_network, [of_trained(loss)]),
            "best_epoch": (per_network, [unknown]),
            "dead_epoch": (per_network, [unknown]),
            "epoch": ("stage", [0.0 if stage == INIT else np.nan for stage in variables]),
        },
        {"seed": list(config.seeds), "stage": list(variables)},
    )
