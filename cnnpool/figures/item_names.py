"""Names of figures, tables and their files, without the code behind them, slow to import."""

from pathlib import Path

from cnnpool.files import storage

FORMATS = ("png", "pdf", "svg")
PICTURES = (
    *("fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig8", "fig9", "fig10"),
    *("noise", "delta_cutoff", "dynamics", "shuffles", "widths"),
)
TEXTS = ("table1", "claims", "paired")
COMMANDS = {  # items with flags of their own, and their modules
    "depth": "depth_command",
    "perturbations": "perturbations_command",
    "report": "report_command",
    "sweep": "sweep_command",
}
ITEMS = (*PICTURES, *TEXTS, *COMMANDS)
TEXT_ENDINGS = (".md", ".txt")


def picture_path(item: str, out: Path | None, picture_format: str | None) -> Path:
    """The path of a picture: an ending is added to a name without one, and a name to a folder.

    Raises:
      ValueError: if `out` is None, or has another ending than the format.
    """
    allowed = FORMATS if picture_format is None else (picture_format,)
    if out is not None and out.suffix.removeprefix(".") not in FORMATS:
        if not storage.is_remote(out) and out.is_dir():
            return out / f"{item}.{allowed[0]}"
        if not out.suffix:
            return out.with_name(f"{out.name}.{allowed[0]}")
    if out is None or out.suffix.removeprefix(".") not in allowed:
        raise ValueError(
            f"{item} needs --out with one of the endings {', '.join(f'.{end}' for end in allowed)}"
            f"; got {out}"
        )
    return out
