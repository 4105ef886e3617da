"""Turns results or parameters into files for other tools.

    python -m cnnpool.export a.nc --to=npz            # a.npz; also csv, parquet
    python -m cnnpool.export --workdir=runs/a --stage=trained --to=npz --out=a_params.npz
    python -m cnnpool.export --workdir=results/checkpoints/a --to=npz --out=a_params.npz

Results: npz has one array a variable and coordinate; csv and parquet have a row a
combination of coordinates. Parameters: npz, keyed by seed and '/'-joined path,
"seed0/conv01/kernel"; convolution kernels are (F, C_in, C_out) in 1-D, in deep networks
(F, F, C_in, C_out), whose batch statistics are there too: "seed0/bn01/mean". "trained" is
the network with the smallest test error where the run kept it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict
import numpy as np
import pandas as pd
import xarray as xr

from cnnpool import command_line
from cnnpool.devices import numerics
from cnnpool.errors import refuse_unknown
from cnnpool.files import results, storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.importing.folder import is_imported
from cnnpool.measuring import image_run, imported_run
from cnnpool.measuring.run import load_stages
from cnnpool.measuring.stages import TRAINED, parse_stage
from cnnpool.runs import run_config
from cnnpool.training import packed
from cnnpool.training.image_step import Variables


def result_arrays(networks: Mapping[str, xr.Dataset]) -> dict[str, np.ndarray]:
    """All variables and coordinates by name; "GROUP/name" where a file holds several networks."""
    return {
        str(name) if group == "/" else f"{group}/{name}": variable.values
        for group, dataset in networks.items()
        for name, variable in dataset.variables.items()
    }


def result_table(networks: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """One row a combination of coordinates, one column a variable; column `network` by group."""
    frames = []
    for group, dataset in networks.items():
        frame = _one_column_a_tap(dataset).to_dataframe().reset_index()
        frames.append(frame if group == "/" else frame.assign(network=group))
    return pd.concat(frames, ignore_index=True)


def _one_column_a_tap(dataset: xr.Dataset) -> xr.Dataset:
    """Spreads the dimension `tap` over variables, so that no other number is repeated."""
    if "tap" not in dataset.dims:
        return dataset
    names = [name for name in dataset.data_vars if "tap" in dataset[name].dims]
    columns = {
        f"{name}_{int(tap)}": dataset[name].sel(tap=tap, drop=True)
        for name in names
        for tap in dataset["tap"].values
    }
    return dataset.drop_dims("tap").assign(columns)


def parameter_arrays(
    workdir: Path, stage: str, *, data_dir: str | None = None
) -> dict[str, np.ndarray]:
    """Every network of a run at one stage, by "seedN/LAYER/NAME"; deep ones with batch statistics.

    Args:
      workdir: of the run, or a folder that cnnpool.pack or cnnpool.import_weights made.
      stage: "init", "trained", "last" or an epoch.
      data_dir: instead of the config's `data.data_dir`; a packed folder needs no data.

    Raises:
      ValueError: if there is no such stage, or JAX is set so that other numbers would come out.
    """
    numerics.refuse_others()
    config = run_config.load(workdir, data_dir=data_dir)
    return packed.named_arrays(_variables(workdir, config, stage), config.seeds)


def _variables(workdir: Path, config: ConfigDict, stage: str) -> Variables:
    if not run_config.is_deep(config):
        return Variables(load_stages(workdir, config, [stage])[stage].networks, {})
    if is_imported(workdir):
        refuse_unknown(stage, [TRAINED], "the stage of an imported network")
        _, variables = imported_run.load(workdir, config)
        return jax.tree.map(lambda leaf: leaf[None], variables)  # a seed axis
    return image_run.load_stages(workdir, config, [stage])[stage].networks


def _write_npz(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    plain = {k: a.astype(str) if a.dtype == object else a for k, a in arrays.items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **plain)


RESULT_WRITERS: dict[str, Callable[[Mapping[str, xr.Dataset], Path], None]] = {
    "npz": lambda networks, path: _write_npz(result_arrays(networks), path),
    "csv": lambda networks, path: result_table(networks).to_csv(path, index=False),
    "parquet": lambda networks, path: result_table(networks).to_parquet(path),
}


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.export")
    parser.add_argument(
        "results", type=storage.path, nargs="?", help="a result file of cnnpool.eval"
    )
    parser.add_argument(
        "--workdir",
        type=storage.path,
        help="a run, packed or imported folder, to export its networks instead",
    )
    parser.add_argument(
        "--stage", help="of the networks: init, trained, last or an epoch (trained)"
    )
    parser.add_argument("--data_dir", help="instead of the run's config.data.data_dir")
    parser.add_argument("--to", choices=sorted(RESULT_WRITERS), required=True, help="format")
    parser.add_argument(
        "--out", type=storage.path, help="default: the result file with the new ending"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    if (args.results is None) == (args.workdir is None):
        parser.error("give either a result file or --workdir")
    if args.results is not None:
        if args.stage or args.data_dir:
            parser.error("--stage and --data_dir go with --workdir")
        out = args.out or args.results.with_suffix(f".{args.to}")
        command_line.refuse_existing(out, overwrite=args.overwrite, because="not replaced")
        command_line.refuse_unwritable(out)
        networks = results.read_networks(args.results)
        write_atomically(out, lambda path: RESULT_WRITERS[args.to](networks, path))
    else:
        if args.to != "npz" or args.out is None:
            parser.error("parameters need --to=npz and --out")
        out = args.out
        command_line.refuse_existing(out, overwrite=args.overwrite, because="not replaced")
        command_line.refuse_unwritable(out)
        stage = parse_stage(args.stage or "trained")
        arrays = parameter_arrays(args.workdir, stage, data_dir=args.data_dir)
        write_atomically(out, lambda path: _write_npz(arrays, path))
    print(f"in {out}")


if __name__ == "__main__":
    command_line.run(main)
