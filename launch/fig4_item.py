"""Reproduces Figure 4 and Table 1: a job trains and measures the simple CNNs; then draws them."""

from pathlib import Path

import xarray as xr

from cnnpool import command_line
from cnnpool.figures import fig4, items, table1
from cnnpool.files import results
from cnnpool.files.atomic_write import write_text
from cnnpool.launch import trained_items
from cnnpool.launch.engines.engine import Engine, EngineError
from cnnpool.launch.items import ITEMS
from cnnpool.launch.trained_items import Places


def reproduce(
    preset: str, places: Places, engine: Engine, *, out: Path, overwrite: bool = False
) -> xr.Dataset:
    """Reproduces Figure 4 and Table 1.

    Args:
      preset: a preset of `configs/scale1d.py`.
      places: where the job's folder is.
      engine: trains and measures what is missing.
      out: the folder for fig4.nc, fig4.png, table1.md and slopes.md.
      overwrite: whether to replace a fig4.nc with another measurement.

    Returns:
      The measurement.

    Raises:
      EngineError: if the job fails, or another launcher is running it.
      FileExistsError: if fig4.nc has another measurement and `overwrite` is False.
    """
    ((run, measurement),) = ITEMS["fig4"].chosen(preset)
    job = trained_items.job_of(run, preset, measurement, places)
    trained_items.check_old_folder(run, preset, job, places)
    state = trained_items.run_here([job], places.jobs, engine)[job.name]
    if not job.is_finished(state.folder):
        raise EngineError(f"{job.name} is {state.state}: {state.detail}")
    dataset = trained_items.measured_by(job, places.jobs)
    file = out / "fig4.nc"
    _write(file, dataset, overwrite=overwrite)
    slopes = items.make("fig4", [file], out / "fig4.png")
    write_text(out / "slopes.md", slopes + "\n")
    items.make("table1", [file], out / "table1.md")
    return dataset


def _write(file: Path, dataset: xr.Dataset, *, overwrite: bool) -> None:
    """Writes a measurement unless the file already contains it."""
    if file.exists() and not overwrite:
        if results.read(file).attrs["measurement"] == dataset.attrs["measurement"]:
            return
        command_line.check_replaceable(file, overwrite=False, because="with another measurement")
    results.write(file, dataset)


def summary(dataset: xr.Dataset) -> str:
    """The main numbers, for the terminal."""
    first, last = fig4.FIT_RANGE
    head = f"{'curve':24s}{'slope of':10s}{'measured':>18s}{'finite ring':>14s}{'paper':>8s}"
    lines = [f"\nSlopes against A_k over layers {first}..{last}, ± standard error over seeds", head]
    for row in fig4.slope_rows(dataset):
        if row.first == first:
            measured = f"{row.measured.mean:+.2f} ± {row.measured.se:.2f}"
            exponent = f"{fig4.PAPER_EXPONENT[row.quantity]:+.0f}"
            paper = "" if row.curve == fig4.CURVES[0].label else exponent
            lines.append(
                f"{row.curve:24s}{row.quantity + '_k':10s}{measured:>18s}"
                f"{row.predicted:>+14.2f}{paper:>8s}"
            )
    trained = dataset.sel(stage="trained", transform="none")
    errors = ", ".join(f"{float(error):.2%}" for error in trained["test_error"])
    epochs = ", ".join(f"{int(epoch)}" for epoch in trained["stopped_epoch"])
    positive = table1.all_positive(table1.filters(dataset, "trained"))
    lines.append(
        "finite ring: exact for constant positive filters; paper: asymptotic, trained networks\n"
        f"test error by seed: {errors}; trained for {epochs} epochs; mean filters positive in the "
        f"first {table1.POSITIVE_LAYERS} layers: {int(positive.sum())} of {positive.size} networks"
    )
    return "\n".join(lines)
