"""The data beside a picture, NAME.csv: its columns, and whether both can be written."""

from pathlib import Path

from cnnpool import command_line
from cnnpool.files import storage

CURVES = (
    *("figure", "panel", "curve", "network", "data", "epochs", "point"),
    *("x", "y", "x_se", "y_se", "seeds"),
)
PERTURBATIONS = ("image", "delta", "cutoff", "noise", "norm", "change", "noise_norm")
_HEADERS = [",".join(columns).encode() for columns in (CURVES, PERTURBATIONS)]


def check_writable(picture: Path) -> None:
    """Checks before anything is drawn that a picture can be written, and its data beside it.

    Raises:
      FileExistsError: if NAME.csv is there and is not the data of a picture: cnnpool.export writes
        a result file's numbers under that name.
      OSError: if one of both cannot be written.
    """
    data = picture.with_suffix(".csv")
    command_line.check_writable(picture)
    command_line.check_writable(data)
    if storage.is_remote(data) or not data.is_file():
        return
    with data.open("rb") as file:
        first = file.readline(max(map(len, _HEADERS)) + 1).strip()
    if first and first not in _HEADERS:
        raise FileExistsError(
            f"{data} is not the data of a picture, and would be replaced by that of {picture}: "
            "give another --out"
        )
