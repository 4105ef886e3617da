"""Learning rates and optimizers of the classifiers.

See docs/protocol.md, "Scale detection in two dimensions" and "CIFAR-10".
"""

import math

import jax
from jax import Array
import jax.numpy as jnp
from ml_collections import ConfigDict
import optax


def learning_rate(config: ConfigDict, step: int | Array, *, steps_per_epoch: int) -> Array:
    """The rate of one step: lr0, or lr0 (1 + cos(pi e / (period E))) / 2 in epoch e of E.

    With a period below 1 it rises again at the end, as the authors' schedule does (0.8). During
    warm-up it is multiplied by the fraction of warm-up steps done, this one included.

    Args:
      config: a `training` section.
      step: number of the step, counted from 0.
      steps_per_epoch: steps per epoch.
    """
    rate = jnp.asarray(config.learning_rate, jnp.result_type(float))
    if config.schedule == "cosine":
        epoch = step // steps_per_epoch
        rate = rate * (1 + jnp.cos(jnp.pi * epoch / (config.cosine_period * config.epochs))) / 2
    warmup = config.warmup_epochs * steps_per_epoch
    return rate * jnp.minimum(1, (step + 1) / warmup) if warmup else rate


def _is_weight(params):
    return jax.tree.map(lambda p: p.ndim >= 2, params)


def build(config: ConfigDict, *, steps_per_epoch: int) -> optax.GradientTransformation:
    """The optimizer of a config's `training` section.

    SGD: g += decay w for tensors of two or more dimensions, v = momentum v + g,
    w -= lr v, as in PyTorch. Gradients are clipped, if requested, before the decay.

    Raises:
      ValueError: if a field is impossible.
    """
    _check(config)
    scale = optax.scale_by_schedule(
        lambda step: -learning_rate(config, step, steps_per_epoch=steps_per_epoch)
    )
    clip = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm is not None else []
    decay = optax.add_decayed_weights(config.weight_decay, mask=_is_weight)
    rules = {"sgd": optax.trace(config.momentum), "adam": optax.scale_by_adam()}
    return optax.chain(*clip, decay, rules[config.optimizer], scale)


def _check(config: ConfigDict) -> None:
    if config.optimizer not in ("sgd", "adam"):
        raise ValueError(f"training.optimizer is {config.optimizer!r}; expected 'sgd' or 'adam'")
    if config.schedule not in ("cosine", "constant"):
        raise ValueError(
            f"training.schedule is {config.schedule!r}; expected 'cosine' or 'constant'"
        )
    positive = {"learning_rate": config.learning_rate, "cosine_period": config.cosine_period}
    positive |= {"clip_norm": config.clip_norm}
    for field, value in positive.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ValueError(f"training.{field} must be positive and finite, got {value}")
    for field in ("momentum", "weight_decay", "warmup_epochs"):
        if not (math.isfinite(config[field]) and config[field] >= 0):
            raise ValueError(
                f"training.{field} must be finite and not negative, got {config[field]}"
            )
