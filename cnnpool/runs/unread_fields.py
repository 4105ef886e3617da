"""Config fields that nothing reads with the chosen network, optimizer, schedule or data.

Configs are complete, so they contain the fields of all choices. Setting a field that has no effect
is an error, so that nobody believes that it changed something.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class _Readers(NamedTuple):
    """The condition on another field under which a field is read.

    Attributes:
      chooser: the other field, "SECTION.FIELD".
      chooses: whether a value of `chooser` causes the field to be read.
      who: those values, in words for a message.
    """

    chooser: str
    chooses: Callable[[Any], bool]
    who: str


def _named(*names: str) -> Callable[[Any], bool]:
    return lambda value: value in names


_READERS = {
    "model.alexnet_dropout": _Readers("model.name", _named("alexnet"), "alexnet"),
    **dict.fromkeys(
        ("model.efficientnet_dropout", "model.efficientnet_drop_connect"),
        _Readers("model.name", _named("efficientnet_b0"), "efficientnet_b0"),
    ),
    "model.fully_connected_width": _Readers(
        "model.name", lambda name: str(name).startswith("fully_connected_"), "fully_connected_*"
    ),
    "training.momentum": _Readers("training.optimizer", _named("sgd"), "sgd"),
    "training.cosine_period": _Readers("training.schedule", _named("cosine"), "cosine"),
}
_DRAW_OF_ARRAYS = _Readers("data.test_fraction", bool, "a fraction above 0")


def unread(config: ConfigDict) -> dict[str, str]:
    """The fields that nothing reads, {"SECTION.FIELD": the reason, for a message}."""
    readers = _READERS | ({"data.seed": _DRAW_OF_ARRAYS} if config.data.name == "arrays" else {})
    return {
        field: f"it has no effect with {one.chooser} {_value(config, one.chooser)!r}, only with "
        f"{one.who}"
        for field, one in readers.items()
        if _has(config, field) and not one.chooses(_value(config, one.chooser))
    }


def check(config: ConfigDict, given: Iterable[str]) -> None:
    """Raises ValueError if nothing reads one of the given fields, each "SECTION.FIELD"."""
    found = unread(config)
    for field in given:
        if field in found:
            raise ValueError(f"{field} is {_value(config, field)!r}, but {found[field]}. Omit it")


def _has(config: ConfigDict, field: str) -> bool:
    section, _, name = field.partition(".")
    return section in config and name in config[section]


def _value(config: ConfigDict, field: str) -> Any:
    section, _, name = field.partition(".")
    return config[section][name]
