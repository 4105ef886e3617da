"""Training of whatever networks a config is of."""

from pathlib import Path
import traceback

import ml_collections
from ml_collections import ConfigDict

from cnnpool.devices import numerics
from cnnpool.runs import run_config
from cnnpool.runs.running import Running
from cnnpool.training import image_loop, loop


def train(config: ConfigDict, workdir: Path, *, process: Running | None = None):
    """Trains by `loop.train` the simple CNNs and by `image_loop.train` the deep networks.

    Args:
      config: complete and locked.
      workdir: of the run.
      process: that holds `workdir` already; None holds it here.

    Returns:
      Their final state.

    Raises:
      ValueError: also if the config lacks a field that its data or model need, or JAX is set so
        that other numbers would come out.
    """
    numerics.refuse_others()
    module = image_loop if run_config.is_deep(config) else loop
    try:
        return module.train(config, workdir, process=process)
    except (AttributeError, KeyError) as error:
        if not _is_of_config(error):
            raise
        raise ValueError(
            f"data.name {config.data.name!r} with model.name {config.model.name!r} needs a field "
            f"that the config lacks: {error.args[0]}; start from the file in configs/ of that data"
        ) from error


def _is_of_config(error: Exception) -> bool:
    """Whether it is a ConfigDict that complains."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return Path(ml_collections.__file__).parent in raised_in.parents
