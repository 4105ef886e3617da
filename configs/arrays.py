"""Classifiers on your own images: `images.npy` and `labels.npy` in a folder.

    python -m cnnpool.train --config=configs/arrays.py --config.data.data_dir=FOLDER \
        --config.model.name=resnet18 --config.model.outputs=4 --workdir=runs/mine

Images are uint8 or floating point, (n, height, width) or (n, height, width, channels). Labels
are classes 0..C-1 (model.outputs = C, training.loss = "cross_entropy") or +1 and -1
(model.outputs = 1, training.loss = "hinge"). Test images are `test_images.npy` and
`test_labels.npy` if these files exist (then set data.test_fraction = 0), else a random part of the
images. Networks can be measured only on square images. A network that does not accept the image
size says in its error message which sizes it does; efficientnet_b0 accepts any size.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cnnpool.configs import cifar10


def get_config() -> ConfigDict:
    """The complete, locked config."""
    config = cifar10.get_config("paper").copy_and_resolve_references().unlock()

    config.data = ConfigDict()
    config.data.name = "arrays"
    config.data.data_dir = placeholder(str)  # the folder
    config.data.test_fraction = 0.2  # fraction of test images, drawn at random; 0: test files
    config.data.seed = 0  # seed of the draw, the same for all networks
    config.data.mean = placeholder(tuple)  # per channel; None: computed from the training images
    config.data.std = placeholder(tuple)  # per channel; None: computed from the training images
    config.data.image_noise = 0.0  # s, norm of the noise on every normalized image

    config.training.epochs = 60
    config.training.cosine_period = 1.0
    config.training.learning_rate = 0.05
    return config.lock()
