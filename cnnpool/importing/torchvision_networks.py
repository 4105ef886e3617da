"""Torchvision's names of the networks that can be imported.

They are separate from the networks themselves, in `cnnpool.models.torchvision`, because those are
slow to import.
"""

NETWORKS = (
    *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19"),
    *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "efficientnet_b0"),
)
