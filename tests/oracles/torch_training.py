"""Oracle for the losses, optimizers and schedule of the classifiers (protocol, sections 5, 7)."""

from collections.abc import Callable, Iterable
import math

import torch
from torch import Tensor, nn


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean of max(0, 1 - y f(x)); outputs (n, 1), labels (n,) of +1 and -1 (section 5)."""
    if outputs.shape != (labels.shape[0], 1) or labels.ndim != 1:
        raise ValueError(
            f"expected outputs (n, 1) and labels (n,), got {tuple(outputs.shape)} and "
            f"{tuple(labels.shape)}"
        )
    return torch.clamp(1 - labels * outputs[:, 0], min=0).mean()


def decayed_sgd(
    net: nn.Module, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """SGD with v <- momentum v + (g + weight_decay w), w <- w - lr v, where only tensors of two
    or more dimensions decay (section 7).
    """
    parameters = list(net.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def adam(net: nn.Module, *, lr: float) -> torch.optim.Adam:
    """Adam with PyTorch's betas (0.9, 0.999) and eps 1e-8, without decay (section 7)."""
    return torch.optim.Adam(net.parameters(), lr=lr)


def cosine(lr0: float, epoch: float, period: float) -> float:
    """lr(e) = lr0 (1 + cos(pi e / period)) / 2; rises again after the period (section 7)."""
    return lr0 * (1 + math.cos(math.pi * epoch / period)) / 2


def train_steps(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    learning_rates: Iterable[float],
) -> list[float]:
    """One step per batch of images (n, c, h, w) and labels, each at its own learning rate, in
    training mode; returns the losses before each step.
    """
    net.train()
    losses = []
    for (images, labels), rate in zip(batches, learning_rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        value = loss(net(images), labels)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses
