"""The networks of torchvision that can be imported, as torchvision calls them.

Their code, which is slow to import, is in `cnnpool.models.torchvision`.
"""

NETWORKS = (
    *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19"),
    *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    *("resnet18", "resnet34", "resnet50", "efficientnet_b0"),
)
