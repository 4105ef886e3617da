"""Names that commands take, without the code behind them, which is slow to import."""

INIT, TRAINED, LAST, ALL = "init", "trained", "last", "all"

# Names of image sources for imported networks; their code is in `cnnpool.measuring.measured_data`.
SOURCES = ("image_folder", "imagenet", "arrays")

# Names of interpolations; their code is in `cnnpool.instruments.diffeomorphisms`.
INTERPOLATIONS = ("bilinear", "nearest", "gaussian")


def parse_stages(text: str) -> tuple[str, ...]:
    """Stage names from a comma-separated list: init, trained, last, all, or epochs.

    Raises:
      ValueError: if one is none of them.
    """
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in (INIT, TRAINED, LAST, ALL) and not name.isdigit():
            raise ValueError(
                f"stage {name!r}: expected {INIT}, {TRAINED}, {LAST}, {ALL} or an epoch's number"
            )
    return names


def parse_stage(text: str) -> str:
    """The name of the only stage in a list.

    Raises:
      ValueError: if there is none, or more than one.
    """
    names = parse_stages(text)
    if len(names) > 1 or ALL in names:
        raise ValueError(f"--stage={text}: expected one stage; give the command once for each")
    return names[0]
