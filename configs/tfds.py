r"""Classifiers on any image classification set of TensorFlow Datasets.

    python -m cnnpool.train --config=configs/tfds.py --config.data.dataset=cifar100 \
        --config.model.name=resnet18 --workdir=runs/cifar100
    python -m cnnpool.train --config=configs/tfds.py --config.data.dataset=mnist \
        --config.data.augmentation=False --config.model.name=lenet --workdir=runs/mnist
    python -m cnnpool.train --config=configs/tfds.py --config.data.dataset=tf_flowers \
        --config.data.image_size=64 --config.data.train_split='train[:80%]' \
        --config.data.test_split='train[80%:]' --workdir=runs/flowers

The set lies as TFDS prepared it, array_record or tfrecord; where it does not, the error says how to
prepare it. Channels, classes, mean and standard deviation come from the data, and so do sizes
where all images are square and of one size.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from cnnpool.configs import cifar10


def get_config() -> ConfigDict:
    """The complete, locked config."""
    config = cifar10.get_config("paper").copy_and_resolve_references().unlock()

    config.data = ConfigDict()
    config.data.name = "tfds"
    config.data.dataset = placeholder(str)  # NAME, NAME/CONFIG or NAME:VERSION (else the newest)
    config.data.data_dir = placeholder(str)  # TFDS's folder; None: TFDS_DATA_DIR, its default
    config.data.train_split = "train"  # or a part, "train[:80%]"
    config.data.test_split = placeholder(str)  # None: test, else validation
    config.data.image_feature = placeholder(str)  # None: the supervised one, or the only one
    config.data.label_feature = placeholder(str)  # None: the supervised one, or the only one
    config.data.image_size = placeholder(int)  # pixels, resized and cropped; None: as they are
    config.data.image_noise = 0.0  # s, norm of the noise on every normalized image
    config.data.augmentation = True  # random crops and flips; not for digits and letters
    config.data.padding = 4  # pixels around the images of which crops are taken
    config.data.train_size = 0  # images; 0: all
    config.data.test_size = 0  # images; 0: all
    config.data.mean = placeholder(tuple)  # of each channel; None: of the training images
    config.data.std = placeholder(tuple)  # of each channel; None: of the training images

    config.model.outputs = placeholder(int)  # classes; None: as many as the data has
    config.model.name = "resnet18"

    config.training.epochs = 60
    config.training.cosine_period = 1.0
    config.training.learning_rate = 0.05
    return config.lock()
