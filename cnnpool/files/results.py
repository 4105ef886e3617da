"""The schema of result files: labelled arrays in netCDF, readable without cnnpool.

Every network is an xarray Dataset with
- dimensions `seed`, `stage`, `transform`, `layer` (named coordinates, layers in
  forward order) and further ones where a measurement has them;
- variables `D`, `G`, `R` and their standard errors over images `D_se`, `G_se`, `R_se`,
  all over (seed, stage, transform, layer), and for image classifiers also `shuffle`;
- attributes `schema_version`, `config` and `versions` (JSON), `commit`,
  `host_platform`, `measurement` (JSON), and `environment` (JSON) if environment variables were set
  that affect rounding.
The dimension `shuffle` numbers the random shuffles, whose values are stored individually; a
transform that is not random has values for number 0 only, then NaN. `over_shuffles` averages their
logarithms. For classifiers of natural images, these variables have three more dimensions: `delta`
and `cutoff` of the max-entropy diffeomorphisms, and `noise`, the kind of noise; `natural` over
(delta, cutoff) says whether diffeomorphisms are natural. Every image classifier has
- `depth` on `layer`: k of the units that figures plot, one per convolution or linear layer;
- `spatial_share` over (seed, stage, transform), the pooling budget
  (`cnnpool.instruments.pooling_budget`), and `layer_spatial_share`, both with `_se`, for shuffles
  of all layers; the first is NaN where R falls by less than `LEAST_FALL`. They are present only
  where networks were measured both as they are and with shuffled channels;
- `gamma` and `gamma_se` over (seed, stage, layer, frequency), `eigenvalue`, `gamma_random`,
  `filter_frequency`: the spectra of its filters (`cnnpool.instruments.filter_spectrum`);
- `test_error`, `test_loss`, `best_epoch`, `dead_epoch` over (seed, stage), `epoch` over stage.
A file contains one network at its root, or several, one per netCDF group. Its content is followed
by a checksum, which netCDF readers ignore (`cnnpool.files.content_checksum`). Every variable has a
`long_name` and `units` (`cnnpool.files.schema`), and every unit of a network has a `layer_depth`,
the depth of its layer, so that `data.R.plot(x="layer_depth")` has axis labels and no gaps. These
are added to older files when they are read.

Files of schema 1 have means over shuffles in `D`, `G`, `R`, their spread in `D_shuffle_sd`,
`G_shuffle_sd`, `R_shuffle_sd`, and spatial shares of one kind of shuffle without the dimension
`transform`. They are read unchanged, except that this dimension is added to the spatial shares.
"""

from collections.abc import Mapping
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cnnpool.errors import CnnpoolError
from cnnpool.files import content_checksum, netcdf, schema, storage, trial_reading
from cnnpool.files.atomic_write import write_atomically

SCHEMA_VERSION = 2
LEAST_FALL = 0.5  # smallest fall of R from first layer to output, in decades, to compute shares of
DIMENSIONS = ("seed", "stage", "transform", "layer")
SENSITIVITIES = ("D", "G", "R", "D_se", "G_se", "R_se")
_SHUFFLE = "channel_shuffle"  # the only one of schema 1
_SHARES = tuple(f"{of}spatial_share{part}" for of in ("", "layer_") for part in ("", "_se"))
ATTRIBUTES = ("config", "versions", "commit", "host_platform", "measurement")


class ResultsError(CnnpoolError):
    """A file is not a complete result file of this schema."""


def check(dataset: xr.Dataset, source: str) -> None:
    """Checks that a dataset follows the schema.

    Args:
      dataset: one network.
      source: where it comes from, for the message.

    Raises:
      ResultsError: if it does not; lists what is missing.
    """
    version = dataset.attrs.get("schema_version")
    if version is None:
        raise ResultsError(f"{source} is no cnnpool result: it has no attribute schema_version")
    if not str(version).isdigit():
        raise ResultsError(f"{source}: expected an integer schema_version, got {version!r}")
    if int(version) > SCHEMA_VERSION:
        raise ResultsError(
            f"{source} has schema version {version}, newer than {SCHEMA_VERSION}: update cnnpool"
        )
    missing = [name for name in SENSITIVITIES if name not in dataset]
    missing += [f"attribute {name}" for name in ATTRIBUTES if name not in dataset.attrs]
    missing += [f"coordinate {name}" for name in DIMENSIONS if name not in dataset.coords]
    if missing:
        raise ResultsError(f"{source} is incomplete: it lacks {', '.join(missing)}")
    for name in SENSITIVITIES:
        if not set(DIMENSIONS) <= set(dataset[name].dims):
            raise ResultsError(
                f"{source}: {name} has dimensions {dataset[name].dims}, not all of {DIMENSIONS}"
            )


def write(path: Path, networks: xr.Dataset | Mapping[str, xr.Dataset]) -> None:
    """Writes one network, or several as netCDF groups, atomically.

    Args:
      path: the file; its folder is created if absent.
      networks: one dataset, or {group name: dataset}.

    Raises:
      ResultsError: if a dataset does not follow the schema.
      OSError: if the file cannot be written.
    """
    groups = {"/": networks} if isinstance(networks, xr.Dataset) else dict(networks)
    for name, dataset in groups.items():
        check(dataset, f"network {name}")
    tree = xr.DataTree.from_dict({name: schema.labelled(one) for name, one in groups.items()})
    encoding = {node.path: _checksums(node.to_dataset()) for node in tree.subtree}
    # In memory, because HDF5 locks the files that it opens, and some file systems have no locks.
    netcdf.h5netcdf()
    content = bytes(tree.to_netcdf(None, engine="h5netcdf", encoding=encoding))
    whole = content_checksum.with_checksum(content)
    write_atomically(path, lambda beside: beside.write_bytes(whole))


def _checksums(dataset: xr.Dataset) -> dict[str, dict[str, bool]]:
    """The encoding with which HDF5 detects corrupted numbers in arrays."""
    numbers = [
        name for name, one in dataset.variables.items() if one.ndim and one.dtype.kind != "U"
    ]
    return {str(name): {"fletcher32": True} for name in numbers}


def read_networks(path: Path) -> dict[str, xr.Dataset]:
    """All networks of a file, {group name: dataset}; the name of the root is "/".

    Raises:
      FileNotFoundError: if the file does not exist.
      OSError: if the file cannot be read.
      ResultsError: if it is not a result file, or damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no result file {path}; create one with `python -m cnnpool.eval`")
    netcdf.h5netcdf()
    content = _readable(path)
    try:
        with xr.open_datatree(io.BytesIO(content), engine="h5netcdf") as tree:
            nodes = {node.path: node.to_dataset().load() for node in tree.subtree if node.has_data}
    except Exception as error:  # h5py raises OSError, KeyError or RuntimeError for damaged files
        raise ResultsError(_unreadable(path, f"{type(error).__name__}: {error}")) from error
    if not nodes:
        raise ResultsError(f"{path} holds no network")
    for name, dataset in nodes.items():
        check(dataset, f"{path}, network {name}")
    return {
        name if name == "/" else name.removeprefix("/"): schema.labelled(
            _with_transform_of_shares(dataset)
        )
        for name, dataset in nodes.items()
    }


def _readable(path: Path) -> bytes:
    """The content of a file, checked so that HDF5 can read it safely."""
    content = storage.read_bytes(path)
    unchanged = content_checksum.is_unchanged(content)
    if unchanged is False:
        raise ResultsError(
            f"{path} is damaged: its content does not match its checksum. Restore it from a copy, "
            "or measure again"
        )
    if not unchanged and (problem := trial_reading.problem(content)):
        raise ResultsError(_unreadable(path, problem))
    return content


def _unreadable(path: Path, why: str) -> str:
    return f"{path} cannot be read as netCDF ({why}): it is damaged or not a result file"


def read_outlines(path: Path) -> dict[str, xr.Dataset] | None:
    """An outline of the networks in a file, a hundred times faster than `read_networks`.

    Args:
      path: the result file.

    Returns:
      Datasets with the attributes and the variables of at most one dimension, by group name; None
      for files for which `read_networks` raises, or may raise, an error.
    """
    if not path.is_file():
        return None
    try:
        content = io.BytesIO(_readable(path))
        with netcdf.h5netcdf().File(content, "r", decode_vlen_strings=True) as file:
            groups = {name: group for name, group in file.groups.items() if group.variables}
            groups |= {"/": file} if file.variables else {}
            whole = all(_is_whole(group) for group in groups.values())
            return {name: _outline(groups[name]) for name in sorted(groups)} if whole else None
    except Exception:  # h5py raises OSError, KeyError or RuntimeError for damaged files
        return None


def read_attributes(path: Path) -> list[dict[str, Any]]:
    """The attributes of all networks in a file, without reading their arrays.

    Raises:
      OSError: if the file cannot be read.
      ResultsError: if it is damaged.
    """
    with netcdf.h5netcdf().File(io.BytesIO(_readable(path)), "r") as file:
        networks = [file] if "config" in file.attrs else list(file.groups.values())
        return [dict(one.attrs) for one in networks]


def _is_whole(group: Any) -> bool:
    """Whether a group has everything that the schema requires, and no subgroups."""
    named = {*SENSITIVITIES, *DIMENSIONS} <= set(group.variables)
    known = {"schema_version", *ATTRIBUTES} <= set(group.attrs)
    return named and known and (group.name == "/" or not group.groups)


def _outline(group: Any) -> xr.Dataset:
    short = {name: one for name, one in group.variables.items() if len(one.dimensions) <= 1}
    variables = {}
    for name, one in short.items():
        values = np.asarray(one[...])
        attributes = dict(one.attrs) if not one.dimensions else {}  # of the parameters of a sweep
        values = values.astype(str) if one.dtype == str else values
        variables[name] = (one.dimensions, values, attributes)
    return xr.Dataset(variables, attrs=dict(group.attrs))


def _with_transform_of_shares(dataset: xr.Dataset) -> xr.Dataset:
    """Spatial shares over `transform`, as schema 2 has them."""
    shares = [name for name in _SHARES if name in dataset and "transform" not in dataset[name].dims]
    place = dataset["transform"] == _SHUFFLE
    return dataset.assign({name: dataset[name].where(place) for name in shares})


def over_shuffles(dataset: xr.Dataset) -> xr.Dataset:
    """Means over random shuffles: D, G, R by the mean of their logarithms.

    Single shuffles differ by 20 to 45 %, so that an arithmetic mean of R would be dominated by its
    largest values (docs/protocol.md, Channel shuffles). The standard errors over images keep their
    mean ratio to D, G, R: all shuffles are measured on the same images, so that this error does
    not decrease with the number of shuffles.

    Args:
      dataset: with the dimension `shuffle`, or without it, as for schema 1 and simple CNNs.

    Returns:
      The dataset without that dimension, and with `D_shuffle_sd`, `G_shuffle_sd` and
      `R_shuffle_sd`: the standard deviation of the logarithms times the mean; NaN for fewer than
      two shuffles. A dataset without the dimension is returned unchanged.
    """
    if "shuffle" not in dataset.dims:
        return dataset
    found = {}
    count = dataset["D"].notnull().sum("shuffle")
    for name in "DGR":
        with np.errstate(divide="ignore", invalid="ignore"):
            logs: xr.DataArray = xr.ufuncs.log(dataset[name])
            mean = np.exp(logs.mean("shuffle"))
            relative = (dataset[f"{name}_se"] / dataset[name]).mean("shuffle")
            spread = logs.std("shuffle", ddof=1).where(count > 1)
        found[name] = mean
        found |= {f"{name}_se": mean * relative, f"{name}_shuffle_sd": mean * spread}
    return dataset.drop_dims("shuffle").assign(found)


def read(path: Path) -> xr.Dataset:
    """The network of a file with a single network.

    Raises:
      FileNotFoundError: if the file does not exist.
      ResultsError: if it is not a result file, or contains several networks.
    """
    networks = read_networks(path)
    if len(networks) > 1:
        raise ResultsError(f"{path} holds several networks: {', '.join(networks)}")
    return next(iter(networks.values()))


def merge_stages(datasets: list[xr.Dataset]) -> xr.Dataset:
    """Concatenates results of the same networks at different stages.

    Raises:
      ResultsError: if they come from different configs, or contain a stage twice.
    """
    first = datasets[0]

    def run_and_measurement(dataset: xr.Dataset) -> dict:
        config = json.loads(dataset.attrs["config"])
        return {k: v for k, v in config.items() if k not in ("runtime", "checkpoint")}

    for other in datasets[1:]:
        if run_and_measurement(first) != run_and_measurement(other):
            raise ResultsError(
                "the result files come from different configs; expected files of one run per figure"
            )
    stages: dict[str, xr.Dataset] = {}
    for dataset in datasets:
        for stage in dataset["stage"].values:
            if str(stage) in stages:
                raise ResultsError(
                    f"stage {stage} is in more than one file; measure all its transforms in one "
                    "call of cnnpool.eval"
                )
            stages[str(stage)] = dataset.sel(stage=[stage])
    per_stage = [name for name in first.data_vars if "stage" in first[name].dims]
    merged = xr.concat(
        [part[per_stage] for part in stages.values()], dim="stage", combine_attrs="override"
    )
    rest = first.drop_vars(per_stage).drop_dims("stage", errors="ignore")
    return merged.merge(rest, combine_attrs="override")
