"""The parameters of a sweep as text: lr=0.05,batch=64."""

from collections.abc import Mapping
from typing import Any

SHORT = {  # in the order in which they are said, before all others
    "learning_rate": "lr",
    "batch_size": "batch",
    "width_factor": "width",
}


def word(name: str, value: Any) -> str:
    """A parameter in one word: lr=0.05."""
    return f"{SHORT.get(name, name)}={shown(value)}"


def shown(value: Any) -> str:
    """A value of a parameter as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def words(place: Mapping[str, Any]) -> str:
    """Parameters in a few words: lr=0.05,batch=64."""
    return ",".join(word(name, value) for name, value in place.items())
