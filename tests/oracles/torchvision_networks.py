"""Oracle for torchvision's ImageNet networks in plain PyTorch, in inference mode.

Keys and shapes of the state_dict are torchvision's, and containers are nested as they are there.
Units are the modules marked by `named`, which also gives them our names. Maps are NCHW, images
(n, 3, 224, 224). Nothing works in place, so that recorded tensors stay as they were.

Held against torchvision 0.28.0 in float64, with the parameters of `torchvision_inputs`, by key,
shape and output, and by the output of every module that has parameters.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

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
NAMES = (
    "alexnet",
    *[f"{vgg}{suffix}" for vgg in VGG_COUNTS for suffix in ("", "_bn")],
    *RESNET_COUNTS,
    "efficientnet_b0",
)


def named(unit: str, module: nn.Module) -> nn.Module:
    """Marks the module as the unit of that name."""
    module.unit = unit
    return module


def flat_average() -> nn.Module:
    """Spatial average of each channel, (n, channels)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Add(nn.Module):
    """Sum of the branch and the skip connection."""

    def forward(self, branch: Tensor, skip: Tensor) -> Tensor:
        return branch + skip


class Scale(nn.Module):
    """Map (n, c, h, w) times the gate (n, c, 1, 1)."""

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        return x * gate


class Plain(nn.Module):
    """AlexNet and the VGGs: maps to a fixed side, flattened, fully connected layers."""

    def __init__(self, features: nn.Sequential, side: int, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.avgpool = named("adaptive_pool", nn.AdaptiveAvgPool2d(side))
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def alexnet(outputs: int) -> nn.Module:
    features = nn.Sequential(
        named("conv01", nn.Conv2d(3, 64, 11, stride=4, padding=2)),
        named("relu01", nn.ReLU()),
        named("pool01", nn.MaxPool2d(3, stride=2)),
        named("conv02", nn.Conv2d(64, 192, 5, padding=2)),
        named("relu02", nn.ReLU()),
        named("pool02", nn.MaxPool2d(3, stride=2)),
        named("conv03", nn.Conv2d(192, 384, 3, padding=1)),
        named("relu03", nn.ReLU()),
        named("conv04", nn.Conv2d(384, 256, 3, padding=1)),
        named("relu04", nn.ReLU()),
        named("conv05", nn.Conv2d(256, 256, 3, padding=1)),
        named("relu05", nn.ReLU()),
        named("pool05", nn.MaxPool2d(3, stride=2)),
    )
    classifier = nn.Sequential(
        named("dropout05", nn.Dropout(0.5)),
        named("linear06", nn.Linear(256 * 6 * 6, 4096)),
        named("relu06", nn.ReLU()),
        named("dropout06", nn.Dropout(0.5)),
        named("linear07", nn.Linear(4096, 4096)),
        named("relu07", nn.ReLU()),
        named("linear08", nn.Linear(4096, outputs)),
    )
    return Plain(features, 6, classifier)


def vgg(name: str, outputs: int) -> nn.Module:
    features = nn.Sequential()
    k, before = 0, 3
    for channels, count in zip(VGG_WIDTHS, VGG_COUNTS[name.removesuffix("_bn")], strict=True):
        for _ in range(count):
            k += 1
            features.append(named(f"conv{k:02d}", nn.Conv2d(before, channels, 3, padding=1)))
            if name.endswith("_bn"):
                features.append(named(f"bn{k:02d}", nn.BatchNorm2d(channels)))
            features.append(named(f"relu{k:02d}", nn.ReLU()))
            before = channels
        features.append(named(f"pool{k:02d}", nn.MaxPool2d(2)))
    classifier = nn.Sequential(
        named(f"linear{k + 1:02d}", nn.Linear(before * 7 * 7, 4096)),
        named(f"relu{k + 1:02d}", nn.ReLU()),
        named(f"dropout{k + 1:02d}", nn.Dropout(0.5)),
        named(f"linear{k + 2:02d}", nn.Linear(4096, 4096)),
        named(f"relu{k + 2:02d}", nn.ReLU()),
        named(f"dropout{k + 2:02d}", nn.Dropout(0.5)),
        named(f"linear{k + 3:02d}", nn.Linear(4096, outputs)),
    )
    return Plain(features, 7, classifier)


class Residual(nn.Module):
    """What both residual blocks share: a 1x1 shortcut where shapes change, and the sum."""

    def make_skip(self, unit: str, before: int, after: int, stride: int) -> None:
        self.downsample = None
        if stride != 1 or before != after:
            conv = nn.Conv2d(before, after, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(
                named(f"{unit}/shortcut_conv", conv),
                named(f"{unit}/shortcut_bn", nn.BatchNorm2d(after)),
            )
        self.add = named(f"{unit}/add", Add())

    def add_skip(self, branch: Tensor, x: Tensor) -> Tensor:
        return self.add(branch, x if self.downsample is None else self.downsample(x))


class BasicBlock(Residual):
    """3x3 with the stride, 3x3."""

    expansion = 1

    def __init__(self, unit: str, before: int, width: int, stride: int) -> None:
        super().__init__()
        conv = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
        self.conv1 = named(f"{unit}/conv1", conv)
        self.bn1 = named(f"{unit}/bn1", nn.BatchNorm2d(width))
        self.relu1 = named(f"{unit}/relu1", nn.ReLU())
        self.conv2 = named(f"{unit}/conv2", nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.bn2 = named(f"{unit}/bn2", nn.BatchNorm2d(width))
        self.make_skip(unit, before, width, stride)
        self.relu2 = named(f"{unit}/relu2", nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.bn2(self.conv2(branch))
        return self.relu2(self.add_skip(branch, x))


class Bottleneck(Residual):
    """1x1, 3x3 with the stride, 1x1 to four times the width."""

    expansion = 4

    def __init__(self, unit: str, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = self.expansion * width
        self.conv1 = named(f"{unit}/conv1", nn.Conv2d(before, width, 1, bias=False))
        self.bn1 = named(f"{unit}/bn1", nn.BatchNorm2d(width))
        self.relu1 = named(f"{unit}/relu1", nn.ReLU())
        conv = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.conv2 = named(f"{unit}/conv2", conv)
        self.bn2 = named(f"{unit}/bn2", nn.BatchNorm2d(width))
        self.relu2 = named(f"{unit}/relu2", nn.ReLU())
        self.conv3 = named(f"{unit}/conv3", nn.Conv2d(width, after, 1, bias=False))
        self.bn3 = named(f"{unit}/bn3", nn.BatchNorm2d(after))
        self.make_skip(unit, before, after, stride)
        self.relu3 = named(f"{unit}/relu3", nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        branch = self.relu1(self.bn1(self.conv1(x)))
        branch = self.relu2(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return self.relu3(self.add_skip(branch, x))


class ResNet(nn.Module):
    """7x7 stem of stride 2, 3x3 max pool of stride 2, four stages, average pool, linear layer."""

    def __init__(self, name: str, outputs: int) -> None:
        super().__init__()
        block = Bottleneck if name == "resnet50" else BasicBlock
        before = RESNET_WIDTHS[0]
        self.conv1 = named("conv01", nn.Conv2d(3, before, 7, stride=2, padding=3, bias=False))
        self.bn1 = named("bn01", nn.BatchNorm2d(before))
        self.relu = named("relu01", nn.ReLU())
        self.maxpool = named("pool01", nn.MaxPool2d(3, stride=2, padding=1))
        b = 0
        for stage, count in enumerate(RESNET_COUNTS[name], start=1):
            layer = nn.Sequential()
            width = RESNET_WIDTHS[stage - 1]
            for i in range(count):
                b += 1
                stride = 2 if stage > 1 and i == 0 else 1
                layer.append(block(f"block{b:02d}", before, width, stride))
                before = block.expansion * width
            self.add_module(f"layer{stage}", layer)
        self.avgpool = named("pool", flat_average())
        self.fc = named("linear", nn.Linear(before, outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x))


class SqueezeExcitation(nn.Module):
    """Map times a gate for each channel, made from the spatial averages."""

    def __init__(self, unit: str, width: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = named(f"{unit}/squeeze_pool", nn.AdaptiveAvgPool2d(1))
        self.fc1 = named(f"{unit}/squeeze_conv", nn.Conv2d(width, squeezed, 1))
        self.activation = named(f"{unit}/squeeze_swish", nn.SiLU())
        self.fc2 = named(f"{unit}/excite_conv", nn.Conv2d(squeezed, width, 1))
        self.scale_activation = named(f"{unit}/excite_sigmoid", nn.Sigmoid())
        self.scale = named(f"{unit}/scale", Scale())

    def forward(self, x: Tensor) -> Tensor:
        gate = self.activation(self.fc1(self.avgpool(x)))
        return self.scale(x, self.scale_activation(self.fc2(gate)))


def convolution(
    prefix: str,
    suffix: str,
    before: int,
    after: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    swish: bool = True,
) -> nn.Sequential:
    """EfficientNet's convolution, batch norm and swish, as PREFIXconvSUFFIX and so on."""
    conv = nn.Conv2d(
        before, after, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )
    layers = nn.Sequential(
        named(f"{prefix}conv{suffix}", conv),
        named(f"{prefix}bn{suffix}", nn.BatchNorm2d(after)),
    )
    return layers.append(named(f"{prefix}swish{suffix}", nn.SiLU())) if swish else layers


class InvertedBlock(nn.Module):
    """Expansion, depthwise convolution, squeeze-excite, projection, skip where shapes allow.

    Stochastic depth is torchvision's in inference mode, where it does nothing.
    """

    def __init__(
        self, unit: str, before: int, after: int, expansion: int, kernel: int, stride: int
    ) -> None:
        super().__init__()
        width = expansion * before
        self.block = nn.Sequential()
        if expansion != 1:
            self.block.append(convolution(f"{unit}/expand_", "", before, width, 1))
        prefix = f"{unit}/depthwise_"
        self.block.append(
            convolution(prefix, "", width, width, kernel, stride=stride, groups=width)
        )
        self.block.append(SqueezeExcitation(unit, width, before // 4))
        self.block.append(convolution(f"{unit}/project_", "", width, after, 1, swish=False))
        self.skips = stride == 1 and before == after
        if self.skips:
            self.drop_connect = named(f"{unit}/drop_connect", nn.Identity())
            self.add = named(f"{unit}/add", Add())

    def forward(self, x: Tensor) -> Tensor:
        branch = self.block(x)
        return self.add(self.drop_connect(branch), x) if self.skips else branch


class EfficientNetB0(nn.Module):
    """3x3 stem of stride 2, sixteen blocks, 1x1 head, average pool, dropout, linear layer."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        before, head = 32, 1280
        self.features = nn.Sequential(convolution("", "01", 3, before, 3, stride=2))
        b = 0
        for expansion, after, count, kernel, stride in EFFICIENTNET_STAGES:
            stage = nn.Sequential()
            for i in range(count):
                b += 1
                own_stride = stride if i == 0 else 1
                unit = f"block{b:02d}"
                stage.append(InvertedBlock(unit, before, after, expansion, kernel, own_stride))
                before = after
            self.features.append(stage)
        self.features.append(convolution("head_", "", before, head, 1))
        self.avgpool = named("pool", flat_average())
        self.classifier = nn.Sequential(
            named("dropout", nn.Dropout(0.2)), named("linear", nn.Linear(head, outputs))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


def build(name: str, outputs: int = 1000) -> nn.Module:
    """The network `name` with PyTorch's default initialization, in inference mode.

    Args:
        name: one of NAMES.
        outputs: number of outputs.

    Returns:
        A module from (n, 3, 224, 224) to (n, outputs).
    """
    if name not in NAMES:
        raise ValueError(f"expected one of {NAMES}, got {name!r}")
    if name == "alexnet":
        net = alexnet(outputs)
    elif name.startswith("vgg"):
        net = vgg(name, outputs)
    elif name.startswith("resnet"):
        net = ResNet(name, outputs)
    else:
        net = EfficientNetB0(outputs)
    return net.eval()


def unit_modules(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Our names and the modules they mark."""
    for module in net.modules():
        if hasattr(module, "unit"):
            yield module.unit, module


def units(net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Output of the net and of each of its units, in forward order."""
    recorded: dict[str, Tensor] = {}

    def record(module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        recorded[module.unit] = output

    handles = [module.register_forward_hook(record) for _, module in unit_modules(net)]
    try:
        with torch.no_grad():
            output = net(images)
    finally:
        for handle in handles:
            handle.remove()
    return output, recorded
