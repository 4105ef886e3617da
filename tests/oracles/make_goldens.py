"""Writes the fingerprints of the torch networks that the JAX networks are held against.

    python -m tests.oracles.make_goldens

from the repository root writes `tests/goldens/`; names of networks after it write those alone.
Everything is float64, from the parameters, images and labels of `parity_inputs`.

NAME_3.npz (cross-entropy, 10 outputs) and NAME_1.npz (hinge, 1 output) hold, for a batch of 4:

- `unit_names`, `unit_fingerprints` (units, 48), `unit_scales`, `unit_shapes` (units, 4), NCHW and
  padded with zeros: every unit in inference mode, in forward order;
- `loss`, `gradient_names`, `gradient_fingerprints`, `gradient_scales`: training mode, dropout 0;
- `statistic_names`, `statistic_fingerprints`, `statistic_scales`: batch norm's running averages
  after that one pass;
- AlexNet alone, `dropout_loss`, `dropout_gradient_fingerprints`, `dropout_gradient_scales`: the
  same with dropout by `parity_inputs.dropout_mask`.

steps_NAME.npz holds `losses` and `learning_rates` of 20 training steps, and `names`,
`fingerprints`, `scales` of all parameters and running averages after the last one.
"""

from collections.abc import Iterator
import sys
import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.oracles import parity_inputs, torch_networks, torch_training
from tests.paths import GOLDENS as FOLDER

ONE_CHANNEL = ("lenet", "alexnet", "vgg11_bn", "resnet18", "efficientnet_b0")
STEP_WIDTHS = {"lenet": 1.0, "vgg11_bn": 0.125, "resnet18": 0.125, "fully_connected_4": 1.0}
LOSSES = {3: functional.cross_entropy, 1: torch_training.hinge}
SGD_RATE = 0.01
ADAM_RATE = 1e-3

Arrays = dict[str, np.ndarray]


class FedDropout(nn.Module):
    """Dropout by a given mask."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.from_numpy(parity_inputs.dropout_mask(self.unit, tuple(x.shape)))


def state(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and running averages, without the counters of batches."""
    return {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}


def parity_network(name: str, channels: int, width_factor: float) -> nn.Module:
    """The network in float64 with the parity parameters and without dropout."""
    net = torch_networks.build(
        name,
        in_channels=channels,
        outputs=parity_inputs.OUTPUTS[channels],
        width_factor=width_factor,
        dropout=0.0,
    ).double()
    ntk = name.startswith("fully_connected")
    for key, tensor in state(net).items():
        value = parity_inputs.parameter(key, tuple(tensor.shape), ntk=ntk)
        tensor.copy_(torch.from_numpy(value))
    return net


def to_torch(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Images NHWC to NCHW, and labels."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)


def prints(prefix: str, tensors: dict[str, Tensor]) -> Arrays:
    """Names, fingerprints (k, 48) and scales (k,) of tensors."""
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    rows = [parity_inputs.fingerprint(name, array) for name, array in arrays.items()]
    width = parity_inputs.ENTRIES + parity_inputs.SUMS
    return {
        f"{prefix}names": np.array(list(arrays), dtype=str),
        f"{prefix}fingerprints": np.array(rows).reshape(-1, width),
        f"{prefix}scales": np.array([parity_inputs.scale(array) for array in arrays.values()]),
    }


def padded_shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape) + [0] * (4 - tensor.ndim)


def inference(net: nn.Module, images: Tensor) -> Arrays:
    """Fingerprint and shape of every unit in inference mode."""
    net.eval()
    with torch.no_grad():
        _, recorded = torch_networks.units(net, images)
    shapes = np.array([padded_shape(tensor) for tensor in recorded.values()])
    return prints("unit_", recorded) | {"unit_shapes": shapes}


def gradients(net: nn.Module, images: Tensor, labels: Tensor, channels: int) -> Arrays:
    """Loss and gradient fingerprints in training mode."""
    net.train()
    net.zero_grad()
    loss = LOSSES[channels](net(images), labels)
    loss.backward()
    grads = {name: parameter.grad for name, parameter in net.named_parameters()}
    return {"loss": np.array(loss.item())} | prints("gradient_", grads)


def fed_gradients(net: nn.Module, images: Tensor, labels: Tensor, channels: int) -> Arrays:
    """As `gradients`, with every dropout unit's mask given."""
    units = [name for name, unit in net.named_modules() if isinstance(unit, nn.Dropout)]
    for unit in units:
        setattr(net, unit, FedDropout(unit))
    found = gradients(net, images, labels, channels)
    return {f"dropout_{key}": value for key, value in found.items() if key != "gradient_names"}


def golden(name: str, channels: int) -> Arrays:
    """All arrays of NAME_CHANNELS.npz."""
    net = parity_network(name, channels, 1.0)
    images, labels = to_torch(*parity_inputs.golden_batch(name, channels))
    arrays = inference(net, images) | gradients(net, images, labels, channels)
    arrays |= prints("statistic_", {k: v for k, v in state(net).items() if "running_" in k})
    if name == "alexnet":
        arrays |= fed_gradients(net, images, labels, channels)
    return arrays


def step_rates(name: str) -> list[float]:
    """Learning rates of the steps, each counted as one epoch of E = 20 with the period 0.8 E."""
    if name.startswith("fully_connected"):
        return [ADAM_RATE] * parity_inputs.STEPS
    period = 0.8 * parity_inputs.STEPS
    return [torch_training.cosine(SGD_RATE, t, period) for t in range(parity_inputs.STEPS)]


def steps(name: str) -> Arrays:
    """All arrays of steps_NAME.npz."""
    net = parity_network(name, 3, STEP_WIDTHS[name])
    rates = step_rates(name)
    if name.startswith("fully_connected"):
        optimizer = torch_training.adam(net, lr=rates[0])
    else:
        optimizer = torch_training.decayed_sgd(net, lr=rates[0], momentum=0.9, weight_decay=5e-4)
    losses = torch_training.train_steps(
        net,
        [to_torch(*batch) for batch in parity_inputs.step_batches(name)],
        loss=functional.cross_entropy,
        optimizer=optimizer,
        learning_rates=rates,
    )
    found = {"losses": np.array(losses), "learning_rates": np.array(rates)}
    return found | {"width_factor": np.array(STEP_WIDTHS[name])} | prints("", state(net))


def goldens(names: list[str]) -> Iterator[tuple[str, Arrays]]:
    """File names without suffix, and their arrays."""
    for name in names:
        yield f"{name}_3", golden(name, 3)
        if name in ONE_CHANNEL:
            yield f"{name}_1", golden(name, 1)
        if name in STEP_WIDTHS:
            yield f"steps_{name}", steps(name)


def main(names: list[str]) -> None:
    # One thread adds in one order, so that a second run writes the same bytes.
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    started = time.perf_counter()
    for stem, arrays in goldens(names):
        path = FOLDER / f"{stem}.npz"
        np.savez_compressed(path, **arrays)
        elapsed = time.perf_counter() - started
        print(f"{elapsed:6.1f} s  {path.stat().st_size / 1000:6.1f} kB  {path.name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or list(torch_networks.NAMES))
