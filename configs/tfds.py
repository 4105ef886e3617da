r"""Classifiers on any image classification data set of TensorFlow Datasets (TFDS).

    python -m cnnpool.train --config=configs/tfds.py --config.data.dataset=cifar100 \
        --config.model.name=resnet18 --workdir=runs/cifar100
    python -m cnnpool.train --config=configs/tfds.py --config.data.dataset=mnist \
        --config.data.augmentation=False --config.model.name=lenet --workdir=runs/mnist
    python -m cnnpool.train --config=configs/tfds.py --config.data.dataset=tf_flowers \
        --config.data.image_size=64 --config.data.train_split='train[:80%]' \
        --config.data.test_split='train[80%:]' --workdir=runs/flowers

TFDS must have prepared the data set, as array_record or tfrecord files; if it is missing, the error
message says how to prepare it. Channels, classes, mean and standard deviation are read from the
data, and so is the image size if all images are square and of the same size.
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
    config.data.train_split = "train"  # or part of a split, "train[:80%]"
    config.data.test_split = placeholder(str)  # None: test, else validation
    config.data.image_feature = placeholder(str)  # None: TFDS's supervised key, or the only one
    config.data.label_feature = placeholder(str)  # None: TFDS's supervised key, or the only one
    config.data.image_size = placeholder(int)  # pixels, by resizing and cropping; None: unchanged
    config.data.image_noise = 0.0  # s, norm of the noise on every normalized image
    config.data.augmentation = True  # random crops and flips; not for digits and letters
    config.data.padding = 4  # pixels on each side of the images before random crops
    config.data.train_size = 0  # images; 0: all
    config.data.test_size = 0  # images; 0: all
    config.data.mean = placeholder(tuple)  # per channel; None: computed from the training images
    config.data.std = placeholder(tuple)  # per channel; None: computed from the training images

    config.model.outputs = placeholder(int)  # classes; None: those of the data set
    config.model.name = "resnet18"

    config.training.epochs = 60
    config.training.cosine_period = 1.0
    config.training.learning_rate = 0.05
    return config.lock()
