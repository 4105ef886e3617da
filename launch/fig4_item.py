"""Makes Figure 4 and Table 1: trains the simple CNNs, measures, draws."""

from pathlib import Path

import xarray as xr

from cnnpool.devices import runtime
from cnnpool.figures import fig4, items, table1
from cnnpool.files.atomic_write import write_text
from cnnpool.measuring.evaluation import evaluate
from cnnpool.measuring.transforms import TRANSFORMS
from cnnpool.training.loop import train
from configs import scale1d


def reproduce(preset: str, *, runs: Path, out: Path, overwrite: bool = False) -> xr.Dataset:
    """Figure 4 and Table 1.

    Args:
      preset: of `configs/scale1d.py`.
      runs: holds the working directory "fig4-PRESET".
      out: gets fig4.nc, fig4.png, table1.md, slopes.md.
      overwrite: replace a fig4.nc that holds another measurement.

    Returns:
      The measurement.
    """
    config = scale1d.get_config(preset)
    runtime.one_cpu_device_per_core(len(config.seeds))
    workdir, file = runs / f"fig4-{preset}", out / "fig4.nc"
    print(f"1/3 training {len(config.seeds)} networks of width {config.model.width} in {workdir}")
    train(config, workdir)
    print(f"2/3 measuring into {file}")
    dataset = evaluate(
        workdir, file, stages=("init", "trained"), transforms=tuple(TRANSFORMS), overwrite=overwrite
    )
    print(f"3/3 drawing into {out}")
    slopes = items.make("fig4", [file], out / "fig4.png")
    write_text(out / "slopes.md", slopes + "\n")
    items.make("table1", [file], out / "table1.md")
    return dataset


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
