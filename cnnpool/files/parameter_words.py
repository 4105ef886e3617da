"""The parameters of a sweep as text: lr=0.05,batch=64."""

from collections.abc import Mapping
from typing import Any

SHORT = {  # abbreviations; these parameters come first, in this order
    "learning_rate": "lr",
    "batch_size": "batch",
    "width_factor": "width",
}


def word(name: str, value: Any) -> str:
    """One parameter as text: lr=0.05."""
    return f"{SHORT.get(name, name)}={shown(value)}"


def shown(value: Any) -> str:
    """A parameter's value as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def words(place: Mapping[str, Any]) -> str:
    """Several parameters as text: lr=0.05,batch=64."""
    return ",".join(word(name, value) for name, value in place.items())
