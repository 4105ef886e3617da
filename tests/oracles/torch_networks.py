"""Oracle for the image classifiers in plain PyTorch (protocol, sections 5 and 7).

Every unit is a leaf module; its attribute path with "." replaced by "/" is the unit's name. Maps
are NCHW. Images are 32 x 32 with three channels and 28 x 28 with one.
"""

from collections import OrderedDict
import functools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIDE = {3: 32, 1: 28}
PADDING = {3: 0, 1: 2}
VGG_WIDTHS = (64, 128, 256, 512, 512)
VGG_COUNTS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
RESNET_WIDTHS = (64, 128, 256, 512)
RESNET_COUNTS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
# Expansion, channels, count, kernel, stride.
EFFICIENTNET_STAGES = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
FULLY_CONNECTED_DEPTHS = (2, 4, 6)
FULLY_CONNECTED_WIDTH = 64
OWN_DROPOUT = {"alexnet": 0.5, "efficientnet_b0": 0.2}
NAMES = (
    "lenet",
    "alexnet",
    *[f"{vgg}{suffix}" for vgg in VGG_COUNTS for suffix in ("", "_bn")],
    *RESNET_COUNTS,
    "efficientnet_b0",
    *[f"fully_connected_{depth}" for depth in FULLY_CONNECTED_DEPTHS],
)


class NtkLinear(nn.Module):
    """Hidden layer x W^T / sqrt(fan_in) + b with W (out, in) and b ~ N(0, 1)."""

    def __init__(self, fan_in: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, fan_in))
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T / math.sqrt(self.weight.shape[1]) + self.bias


class NtkReadout(nn.Module):
    """Readout h W^T / fan_in with W (out, in) ~ N(0, 1) and no bias."""

    def __init__(self, fan_in: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, fan_in))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T / self.weight.shape[1]


class Add(nn.Module):
    """Sum of the branch and the skip connection."""

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return branch + skip


class Scale(nn.Module):
    """Map (n, c, h, w) times the gate (n, c, 1, 1)."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


class DropConnect(nn.Module):
    """Drops the whole branch of an image with probability `rate`, else divides it by 1 - rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        mask = torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), keep, dtype=x.dtype))
        return x * mask / keep


class Chain(nn.Module):
    """Units one after the other on the zero-padded image, flattened (c, h, w) once maps end."""

    FLAT = (nn.Linear, nn.Dropout, NtkLinear, NtkReadout)

    def __init__(self, units_in_order: "OrderedDict[str, nn.Module]", padding: int) -> None:
        super().__init__()
        self.padding = padding
        for name, unit in units_in_order.items():
            self.add_module(name, unit)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.pad(x, [self.padding] * 4)
        for unit in self.children():
            x = unit(x.flatten(1) if isinstance(unit, self.FLAT) else x)
        return x


def scaled(channels: int, width_factor: float) -> int:
    return max(1, round(channels * width_factor))


def lenet(in_channels: int, outputs: int) -> nn.Module:
    side = ((IMAGE_SIDE[in_channels] - 4) // 2 - 4) // 2
    return Chain(
        OrderedDict(
            conv01=nn.Conv2d(in_channels, 6, 5),
            relu01=nn.ReLU(),
            pool01=nn.MaxPool2d(2),
            conv02=nn.Conv2d(6, 16, 5),
            relu02=nn.ReLU(),
            pool02=nn.MaxPool2d(2),
            linear03=nn.Linear(16 * side * side, 120),
            relu03=nn.ReLU(),
            linear04=nn.Linear(120, 84),
            relu04=nn.ReLU(),
            linear05=nn.Linear(84, outputs),
        ),
        padding=0,
    )


def alexnet(in_channels: int, outputs: int, width_factor: float, dropout: float) -> nn.Module:
    c1, c2, c3, c4, c5, hidden = (scaled(c, width_factor) for c in (64, 192, 384, 256, 256, 4096))
    return Chain(
        OrderedDict(
            conv01=nn.Conv2d(in_channels, c1, 3, stride=2, padding=1),
            relu01=nn.ReLU(),
            pool01=nn.MaxPool2d(2),
            conv02=nn.Conv2d(c1, c2, 3, padding=1),
            relu02=nn.ReLU(),
            pool02=nn.MaxPool2d(2),
            conv03=nn.Conv2d(c2, c3, 3, padding=1),
            relu03=nn.ReLU(),
            conv04=nn.Conv2d(c3, c4, 3, padding=1),
            relu04=nn.ReLU(),
            conv05=nn.Conv2d(c4, c5, 3, padding=1),
            relu05=nn.ReLU(),
            pool05=nn.MaxPool2d(2),
            dropout05=nn.Dropout(dropout),
            linear06=nn.Linear(c5 * 2 * 2, hidden),
            relu06=nn.ReLU(),
            dropout06=nn.Dropout(dropout),
            linear07=nn.Linear(hidden, hidden),
            relu07=nn.ReLU(),
            linear08=nn.Linear(hidden, outputs),
        ),
        padding=PADDING[in_channels],
    )


def vgg(name: str, in_channels: int, outputs: int, width_factor: float) -> nn.Module:
    plan = VGG_COUNTS[name.removesuffix("_bn")]
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    k, before = 0, in_channels
    for width, count in zip(VGG_WIDTHS, plan, strict=True):
        channels = scaled(width, width_factor)
        for _ in range(count):
            k += 1
            chain[f"conv{k:02d}"] = nn.Conv2d(before, channels, 3, padding=1)
            if name.endswith("_bn"):
                chain[f"bn{k:02d}"] = nn.BatchNorm2d(channels)
            chain[f"relu{k:02d}"] = nn.ReLU()
            before = channels
        chain[f"pool{k:02d}"] = nn.MaxPool2d(2)
    chain[f"linear{k + 1:02d}"] = nn.Linear(before, outputs)
    return Chain(chain, padding=PADDING[in_channels])


def fully_connected(depth: int, in_channels: int, outputs: int) -> nn.Module:
    chain: OrderedDict[str, nn.Module] = OrderedDict()
    fan_in = in_channels * IMAGE_SIDE[in_channels] ** 2
    for k in range(1, depth):
        chain[f"linear{k:02d}"] = NtkLinear(fan_in, FULLY_CONNECTED_WIDTH)
        chain[f"relu{k:02d}"] = nn.ReLU()
        fan_in = FULLY_CONNECTED_WIDTH
    chain[f"linear{depth:02d}"] = NtkReadout(fan_in, outputs)
    return Chain(chain, padding=0)


class Residual(nn.Module):
    """What both residual blocks share: a 1x1 shortcut where shapes change."""

    def make_shortcut(self, before: int, after: int, stride: int) -> None:
        self.has_shortcut = stride != 1 or before != after
        if self.has_shortcut:
            self.shortcut_conv = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.shortcut_bn = nn.BatchNorm2d(after)

    def shortcut(self, x: Tensor) -> Tensor:
        return self.shortcut_bn(self.shortcut_conv(x)) if self.has_shortcut else x


class BasicBlock(Residual):
    """3x3 with the stride, 3x3."""

    def __init__(self, before: int, width: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.make_shortcut(before, after, stride)
        self.add = Add()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return self.relu2(self.add(branch, self.shortcut(x)))


class Bottleneck(Residual):
    """1x1, 3x3 with the stride, 1x1 to four times the width."""

    def __init__(self, before: int, width: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.make_shortcut(before, after, stride)
        self.add = Add()
        self.relu3 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.relu2(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return self.relu3(self.add(branch, self.shortcut(x)))


class ResNet(nn.Module):
    """Stem of stride 1, four stages, 4x4 average pool, one linear layer."""

    def __init__(self, name: str, in_channels: int, outputs: int, width_factor: float) -> None:
        super().__init__()
        block, expansion = (Bottleneck, 4) if name == "resnet50" else (BasicBlock, 1)
        before = scaled(RESNET_WIDTHS[0], width_factor)
        self.conv01 = nn.Conv2d(in_channels, before, 3, padding=1, bias=False)
        self.bn01 = nn.BatchNorm2d(before)
        self.relu01 = nn.ReLU()
        self.blocks = 0
        for stage, count in enumerate(RESNET_COUNTS[name]):
            width = scaled(RESNET_WIDTHS[stage], width_factor)
            after = scaled(expansion * RESNET_WIDTHS[stage], width_factor)
            for i in range(count):
                self.blocks += 1
                stride = 2 if stage > 0 and i == 0 else 1
                self.add_module(f"block{self.blocks:02d}", block(before, width, after, stride))
                before = after
        self.pool = nn.AvgPool2d(4)
        self.linear = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu01(self.bn01(self.conv01(x)))
        for b in range(1, self.blocks + 1):
            x = self.get_submodule(f"block{b:02d}")(x)
        return self.linear(self.pool(x).flatten(1))


class InvertedBlock(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, projection, skip where shapes allow."""

    def __init__(
        self, before: int, after: int, expansion: int, kernel: int, stride: int, drop_rate: float
    ) -> None:
        super().__init__()
        self.expands = expansion != 1
        self.skips = stride == 1 and before == after
        width = expansion * before
        squeezed = int(0.25 * before)
        if self.expands:
            self.expand_conv = nn.Conv2d(before, width, 1, bias=False)
            self.expand_bn = nn.BatchNorm2d(width)
            self.expand_swish = nn.SiLU()
        self.depthwise_conv = nn.Conv2d(
            width, width, kernel, stride=stride, padding=kernel // 2, groups=width, bias=False
        )
        self.depthwise_bn = nn.BatchNorm2d(width)
        self.depthwise_swish = nn.SiLU()
        self.squeeze_pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze_conv = nn.Conv2d(width, squeezed, 1)
        self.squeeze_swish = nn.SiLU()
        self.excite_conv = nn.Conv2d(squeezed, width, 1)
        self.excite_sigmoid = nn.Sigmoid()
        self.scale = Scale()
        self.project_conv = nn.Conv2d(width, after, 1, bias=False)
        self.project_bn = nn.BatchNorm2d(after)
        if self.skips:
            self.drop_connect = DropConnect(drop_rate)
            self.add = Add()

    def forward(self, x: Tensor) -> Tensor:
        h = self.expand_swish(self.expand_bn(self.expand_conv(x))) if self.expands else x
        h = self.depthwise_swish(self.depthwise_bn(self.depthwise_conv(h)))
        gate = self.squeeze_swish(self.squeeze_conv(self.squeeze_pool(h)))
        h = self.scale(h, self.excite_sigmoid(self.excite_conv(gate)))
        h = self.project_bn(self.project_conv(h))
        return self.add(self.drop_connect(h), x) if self.skips else h


class EfficientNetB0(nn.Module):
    """Stem of stride 1, sixteen blocks, average pool, dropout, linear layer on 320 features.

    Block b of B, counted from 1, has the drop-connect rate drop_connect * b / B.
    """

    def __init__(self, in_channels: int, outputs: int, dropout: float, drop_connect: float) -> None:
        super().__init__()
        before = 32
        self.conv01 = nn.Conv2d(in_channels, before, 3, padding=1, bias=False)
        self.bn01 = nn.BatchNorm2d(before)
        self.swish01 = nn.SiLU()
        self.blocks = sum(stage[2] for stage in EFFICIENTNET_STAGES)
        b = 0
        for expansion, after, count, kernel, stride in EFFICIENTNET_STAGES:
            for i in range(count):
                b += 1
                rate = drop_connect * b / self.blocks
                own_stride = stride if i == 0 else 1
                block = InvertedBlock(before, after, expansion, kernel, own_stride, rate)
                self.add_module(f"block{b:02d}", block)
                before = after
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(before, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.swish01(self.bn01(self.conv01(x)))
        for b in range(1, self.blocks + 1):
            x = self.get_submodule(f"block{b:02d}")(x)
        return self.linear(self.dropout(self.pool(x).flatten(1)))


def check(name: str, in_channels: int, width_factor: float, dropout, drop_connect: float) -> None:
    """Refuses what no network of the protocol has, so that no argument is silently ignored."""
    if name not in NAMES:
        raise ValueError(f"expected one of {NAMES}, got {name!r}")
    if in_channels not in IMAGE_SIDE:
        raise ValueError(f"expected in_channels 3 (32 x 32) or 1 (28 x 28), got {in_channels}")
    if width_factor != 1.0 and not name.startswith(("alexnet", "vgg", "resnet")):
        raise ValueError(f"{name} has no width factor: expected 1.0, got {width_factor}")
    if dropout and name not in OWN_DROPOUT:
        raise ValueError(f"{name} has no dropout: expected None or 0, got {dropout}")
    if drop_connect and name != "efficientnet_b0":
        raise ValueError(f"{name} has no drop-connect: expected 0, got {drop_connect}")


def build(
    name: str,
    *,
    in_channels: int,
    outputs: int,
    width_factor: float = 1.0,
    dropout: float | None = None,
    drop_connect: float = 0.0,
) -> nn.Module:
    """The network `name` with PyTorch's default initialization (NTK-style: N(0, 1)).

    Args:
        name: one of NAMES.
        in_channels: 3 for 32 x 32 images, 1 for 28 x 28.
        outputs: number of outputs.
        width_factor: scales channels c to max(1, round(c * width_factor)).
        dropout: rate; None for the network's own, 0.5 for AlexNet and 0.2 for EfficientNet.
        drop_connect: rate of the last block of EfficientNet.

    Returns:
        A module from (n, in_channels, side, side) to (n, outputs).

    Protocol, sections 5 and 7.
    """
    check(name, in_channels, width_factor, dropout, drop_connect)
    rate = OWN_DROPOUT.get(name, 0.0) if dropout is None else dropout
    if name.startswith("fully_connected"):
        return fully_connected(int(name.rsplit("_", 1)[1]), in_channels, outputs)
    if name.startswith("vgg"):
        return vgg(name, in_channels, outputs, width_factor)
    if name.startswith("resnet"):
        return ResNet(name, in_channels, outputs, width_factor)
    if name == "alexnet":
        return alexnet(in_channels, outputs, width_factor, rate)
    if name == "efficientnet_b0":
        return EfficientNetB0(in_channels, outputs, rate, drop_connect)
    return lenet(in_channels, outputs)


def units(net: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output of the net and of each of its units, in forward order."""
    recorded: dict[str, Tensor] = {}

    def record(name: str, _module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        recorded[name] = output

    leaves = [(path, unit) for path, unit in net.named_modules() if not list(unit.children())]
    handles = [
        unit.register_forward_hook(functools.partial(record, path.replace(".", "/")))
        for path, unit in leaves
    ]
    try:
        output = net(x)
    finally:
        for handle in handles:
            handle.remove()
    return output, recorded
