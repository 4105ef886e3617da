"""Flags that several commands of figures share; imports nothing slow."""

import argparse


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE of a flag, split at the last "="."""
    name, sign, value = text.rpartition("=")
    if not (sign and name and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return name, value


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds --label, the user's own names of networks."""
    parser.add_argument(
        "--label",
        type=pair,
        action="append",
        default=[],
        metavar="FILE=LABEL",
        help="the name of a network; FILE:GROUP if a file holds several",
    )
