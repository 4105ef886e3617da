"""Checked fields of a config's `model` section."""

import math

from ml_collections import ConfigDict


def at_least_one(config: ConfigDict, field: str) -> int:
    """A field that is a count; ValueError if it is below 1."""
    if config[field] < 1:
        raise ValueError(f"model.{field} must be at least 1, got {config[field]}")
    return config[field]


def rate(config: ConfigDict, field: str) -> float:
    """A probability of dropping; ValueError if it is outside [0, 1)."""
    if not 0 <= config[field] < 1:
        raise ValueError(f"model.{field} must be in [0, 1), got {config[field]}")
    return config[field]


def width_factor(config: ConfigDict) -> float:
    """The factor on all channels; ValueError if it is not positive."""
    if not 0 < config.width_factor < math.inf:
        raise ValueError(f"model.width_factor must be positive, got {config.width_factor}")
    return config.width_factor


def check_width_factor(config: ConfigDict) -> None:
    """ValueError if a network whose channels do not scale is asked to scale them."""
    if config.width_factor != 1:
        raise ValueError(
            f"model.width_factor must be 1.0 for {config.name}, whose channels do not scale, got "
            f"{config.width_factor}; AlexNet, VGG and ResNet scale"
        )


def features_only(config: ConfigDict) -> bool:
    """Whether a torchvision network ends with its features; ValueError if the field is missing."""
    if "features_only" not in config:
        raise ValueError(
            f"model.features_only is not there, which {config.name} needs: such networks are "
            "imported (cnnpool.import_weights), not trained; expected one without torchvision_ in "
            "front"
        )
    return config.features_only


def scaled(channels: int, factor: float) -> int:
    """max(1, round(factor channels))."""
    return max(1, round(factor * channels))
