r"""Classifiers on 2-D scale detection: Figures 3, 5, 6, 8, 10 (row 3).

    python -m cnnpool.train --config=configs/scale2d.py --config.model.name=vgg11_bn \
        --workdir=runs/scale2d-vgg11_bn
    python -m cnnpool.train --config=configs/scale2d.py --config.model.name=lenet \
        --config.seeds=0,1,2,3,4,5,6,7,8,9 --workdir=runs/scale2d-lenet

Presets (after the colon): `paper` (default), the full protocol, 300 epochs of 1024 images;
`cpu`, 60 epochs with one descent of the cosine (period 1).

Expected test error of the best network: LeNet 4.4-6.6 % in ten networks, within 40 epochs, about 10
minutes on one or two idle CPU cores (estimated from the time of a step). It later collapses to 50 %
or dies (loss exactly 1, the same output for all images); this is reported, and no parameter was
tuned to avoid it. VGG11-bn 0.05 % (one network), about 45 minutes on 2 idle CPU cores (estimated
likewise).
"""

from ml_collections import ConfigDict

from cnnpool.configs import cifar10


def get_config(preset: str = "paper") -> ConfigDict:
    """The complete, locked config of one preset."""
    config = cifar10.get_config("paper").copy_and_resolve_references().unlock()

    config.data = ConfigDict()
    config.data.name = "scale2d"
    config.data.size = 28  # d, pixels per side
    config.data.scale = 14  # xi, pixels
    config.data.gap = 2  # g, whole width of the gap, pixels
    config.data.distance = "euclidean"  # or "linf"
    config.data.periodic = False  # whether distances and moves wrap around the border
    config.data.train_size = 1024  # images, half of each class
    config.data.test_size = 4096  # images, half of each class, disjoint from training
    config.data.seed = 0  # of the draw of both sets, the same for all networks

    config.model.name = "lenet"
    config.model.outputs = 1

    config.training.loss = "hinge"
    config.training.learning_rate = 0.05
    config.training.epochs = 300

    config.runtime.steps_per_call = 8  # one epoch
    config.runtime.test_batch_size = 512

    if preset == "cpu":
        config.training.epochs = 60
        config.training.cosine_period = 1.0
    elif preset != "paper":
        raise ValueError(f"preset is {preset!r}; expected paper or cpu")
    return config.lock()
