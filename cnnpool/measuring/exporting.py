"""Results and parameters as arrays and tables, for files of other tools."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from cnnpool.devices import numerics
from cnnpool.measuring import runs


def result_arrays(networks: Mapping[str, xr.Dataset]) -> dict[str, np.ndarray]:
    """All variables and coordinates by name; "GROUP/name" where a file holds several networks."""
    return {
        str(name) if group == "/" else f"{group}/{name}": variable.values
        for group, dataset in networks.items()
        for name, variable in dataset.variables.items()
    }


def result_table(networks: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row per value of D, G, R, one column per variable; `network` is the group."""
    frames = []
    for group, dataset in networks.items():
        frame = _with_dimensions_of_d(dataset).to_dataframe().reset_index()
        frames.append(frame if group == "/" else frame.assign(network=group))
    return pd.concat(frames, ignore_index=True)


def _with_dimensions_of_d(dataset: xr.Dataset) -> xr.Dataset:
    """Splits all dimensions that D, G, R do not have (frequency, tap) into one variable per value.

    D, G and R would otherwise be repeated, and statistics of the table's rows be wrong.
    """
    for dim in sorted(map(str, set(dataset.dims) - set(dataset["D"].dims))):
        columns = {
            f"{name}_{value}": dataset[name].sel({dim: value}, drop=True)
            for name, variable in dataset.variables.items()
            if dim in variable.dims and name != dim
            for value in dataset[dim].values
        }
        dataset = dataset.drop_dims(dim).assign(columns)
    return dataset


def parameter_arrays(
    workdir: Path, stage: str, *, data_dir: str | None = None
) -> dict[str, np.ndarray]:
    """Every network of a run at one stage, by "seedN/LAYER/NAME", with batch statistics.

    Args:
      workdir: a run's working directory, or a folder made by cnnpool.pack or
        cnnpool.import_weights.
      stage: "init", "trained", "last" or an epoch.
      data_dir: replaces the config's `data.data_dir`; a packed folder needs no data.

    Raises:
      ValueError: if there is no such stage, or JAX settings would change the numbers.
    """
    numerics.check_settings()
    runs.check_no_images(workdir, data_dir)
    networks = runs.open(workdir, data_dir=data_dir).networks(stage)
    return {
        f"seed{one.seed}/{path}": np.asarray(leaf)
        for one in networks
        for path, leaf in one.variables.by_path().items()
    }


def write_npz(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Writes arrays by name, without pickles: objects become text."""
    plain = {k: a.astype(str) if a.dtype == object else a for k, a in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **plain)


TABLE_WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
}
RESULT_WRITERS: dict[str, Callable[[Mapping[str, xr.Dataset], Path], None]] = {
    "npz": lambda networks, path: write_npz(result_arrays(networks), path),
    "csv": lambda networks, path: TABLE_WRITERS["csv"](result_table(networks), path),
    "parquet": lambda networks, path: TABLE_WRITERS["parquet"](result_table(networks), path),
}
