"""Tiny finished runs of classifiers, trained once a session; copy before changing anything."""

import functools

from ml_collections import ConfigDict
import numpy as np

from cnnpool.configs import cifar10, scale2d
from cnnpool.training import fit

MEASUREMENT = {"images": 24, "shuffles": 2}  # of 64 test images


def _shorten(config):
    config.training.epochs, config.training.batch_size = 2, 32
    config.runtime.test_batch_size = 24  # does not divide the test images
    config.runtime.tensorboard = False
    config.checkpoint.every_seconds = 0.0
    return config.lock()


def lenet_config():
    """Two LeNets on 2-D scale detection."""
    config = scale2d.get_config().unlock()
    config.seeds = (0, 1)
    config.data.train_size = config.data.test_size = 64
    return _shorten(config)


def vgg_config(folder):
    """Two narrow VGG11 with batch normalization on noisy arrays; best after the first epoch."""
    config = cifar10.get_config("paper").unlock()
    config.seeds = (0, 3)
    config.data = ConfigDict(
        {
            "name": "arrays",
            "data_dir": str(folder),
            "test_fraction": 0.5,
            "seed": 0,
            "mean": None,
            "std": None,
            "image_noise": 40.0,
        }
    )
    config.model.outputs, config.model.width_factor = 2, 0.05
    return _shorten(config)


def save_arrays(folder):
    """128 images in two classes, one brighter."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 128)
    images = random.integers(0, 156, (128, 32, 32, 1)) + 100 * labels[:, None, None, None]
    np.save(folder / "images.npy", images.astype(np.uint8))
    np.save(folder / "labels.npy", labels)


@functools.cache
def lenet(base):
    """Working directory, in the session's temporary folder `base`, and final state."""
    workdir = base / "classifier_runs" / "lenet"
    return workdir, fit.train(lenet_config(), workdir)


@functools.cache
def vgg(base):
    """Working directory and final state; the data has moved from data.data_dir to "moved"."""
    folder = base / "classifier_runs" / "vgg"
    (folder / "data").mkdir(parents=True)
    save_arrays(folder / "data")
    state = fit.train(vgg_config(folder / "data"), folder / "run")
    (folder / "data").rename(folder / "moved")
    return folder / "run", state


def moved_data(workdir):
    """Where the arrays of the VGGs are."""
    return str(workdir.parent / "moved")
