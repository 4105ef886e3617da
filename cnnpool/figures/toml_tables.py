"""Tables of a TOML file that a person edits: read, with errors that name the field."""

from collections.abc import Set
import dataclasses
from pathlib import Path
import tomllib
from typing import Any


def read_tables(path: Path, name: str) -> list[Any]:
    """The tables [[name]] of a TOML file that holds nothing else.

    Raises:
      FileNotFoundError: if it is not there.
      ValueError: if it is no TOML, or holds something else or nothing.
    """
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is no TOML: {error}") from error
    if set(found) != {name} or not isinstance(found[name], list):
        raise ValueError(f"{path}: expected [[{name}]] tables alone, got {', '.join(found)}")
    return found[name]


def check_fields(fields: Any, wanted: type, where: str) -> None:
    """Raises ValueError unless `fields` has those of a dataclass, optional ones or not."""
    every = dataclasses.fields(wanted)
    needed: Set[str] = {one.name for one in every if one.default is dataclasses.MISSING}
    if (
        not isinstance(fields, dict)
        or needed - set(fields)
        or set(fields) - {one.name for one in every}
    ):
        got = ", ".join(map(str, fields)) if isinstance(fields, dict) else repr(fields)
        names = ", ".join(
            one.name if one.name in needed else f"{one.name} (optional)" for one in every
        )
        raise ValueError(f"{where}: expected the fields {names}; got {got}")


def check_list(value: Any, where: str) -> list:
    """The value; ValueError unless it is a list."""
    if not isinstance(value, list):
        raise ValueError(f"{where} must be a list, got {value!r}")
    return value


def check_text(value: Any, where: str) -> None:
    """Raises ValueError unless the value is text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} must be text, got {value!r}")
