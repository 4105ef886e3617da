"""Which of torchvision's networks for ImageNet an item of the paper shows."""

SHALLOW_VGGS = ("vgg11", "vgg11_bn")
DEEP_VGGS = ("vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn")
VGGS = (*SHALLOW_VGGS, *DEEP_VGGS)

ITEMS: dict[str, tuple[str, ...]] = {
    "fig2": VGGS,
    "fig3": SHALLOW_VGGS,
    "fig7": ("alexnet",),
    "fig8": ("alexnet", *VGGS),
    "fig9": DEEP_VGGS,
    "fig10": ("alexnet",),
}
