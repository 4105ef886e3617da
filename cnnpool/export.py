"""Turns results or parameters into files for other tools.

    python -m cnnpool.export a.nc --to=npz            # a.npz; also csv, parquet
    python -m cnnpool.export --workdir=runs/a --stage=trained --to=npz --out=a_params.npz

Results: npz has one array a variable and coordinate; csv and parquet have a row a
combination of coordinates. Parameters: npz, keyed by seed and '/'-joined path,
"seed0/conv01/kernel"; convolution kernels are (F, C_in, C_out).
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flax.traverse_util import flatten_dict
import numpy as np
import pandas as pd
import xarray as xr

from cnnpool import command_line, results, run_config
from cnnpool.atomic_write import write_atomically
from cnnpool.measuring.run import load_stages


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


def parameter_arrays(workdir: Path, stage: str) -> dict[str, np.ndarray]:
    """The parameters of every network of a run at one stage, by "seedN/LAYER/NAME"."""
    config = run_config.load(workdir)
    state = load_stages(workdir, config, [stage])[stage]
    return {
        f"seed{seed}/{path}": np.asarray(leaf[row])
        for path, leaf in flatten_dict(state.params, sep="/").items()
        for row, seed in enumerate(config.seeds)
    }


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
    parser.add_argument("results", type=Path, nargs="?", help="a result file of cnnpool.eval")
    parser.add_argument("--workdir", type=Path, help="a run, to export its parameters instead")
    parser.add_argument("--stage", help="of the parameters: init, trained or an epoch (trained)")
    parser.add_argument("--to", choices=sorted(RESULT_WRITERS), required=True, help="format")
    parser.add_argument("--out", type=Path, help="default: the result file with the new ending")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    args = parser.parse_args(argv)
    if (args.results is None) == (args.workdir is None):
        parser.error("give either a result file or --workdir")
    if args.results is not None:
        if args.stage:
            parser.error("--stage goes with --workdir")
        out = args.out or args.results.with_suffix(f".{args.to}")
        command_line.refuse_existing(out, overwrite=args.overwrite, because="not replaced")
        networks = results.read_networks(args.results)
        write_atomically(out, lambda path: RESULT_WRITERS[args.to](networks, path))
    else:
        if args.to != "npz" or args.out is None:
            parser.error("parameters need --to=npz and --out")
        out = args.out
        command_line.refuse_existing(out, overwrite=args.overwrite, because="not replaced")
        arrays = parameter_arrays(args.workdir, args.stage or "trained")
        write_atomically(out, lambda path: _write_npz(arrays, path))
    print(f"in {out}")


if __name__ == "__main__":
    command_line.run(main)
