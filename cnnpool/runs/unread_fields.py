"""Fields that a config has for other networks, optimizers or data than those that it names.

A config is complete, so it holds them all; one that somebody gives a value and nothing reads is
refused, lest they believe that it did something.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class _Readers(NamedTuple):
    """Which values of another field make something read a field.

    Attributes:
      chooser: the other field.
      chooses: whether a value of it does.
      who: these values, in words.
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
_DRAW_OF_ARRAYS = _Readers("data.test_fraction", bool, "a fraction of the images, over 0,")


def unread(config: ConfigDict) -> dict[str, str]:
    """The fields that nothing reads, "SECTION.FIELD", and of each why."""
    readers = _READERS | ({"data.seed": _DRAW_OF_ARRAYS} if config.data.name == "arrays" else {})
    return {
        field: f"with {one.chooser} {_value(config, one.chooser)!r} nothing reads it; "
        f"{one.who} does"
        for field, one in readers.items()
        if _has(config, field) and not one.chooses(_value(config, one.chooser))
    }


def check(config: ConfigDict, given: Iterable[str]) -> None:
    """Raises ValueError if one of the fields that were given, "SECTION.FIELD", is not read."""
    found = unread(config)
    for field in given:
        if field in found:
            raise ValueError(
                f"{field} is {_value(config, field)!r}, but {found[field]}: leave it out"
            )


def _has(config: ConfigDict, field: str) -> bool:
    section, _, name = field.partition(".")
    return section in config and name in config[section]


def _value(config: ConfigDict, field: str) -> Any:
    section, _, name = field.partition(".")
    return config[section][name]
