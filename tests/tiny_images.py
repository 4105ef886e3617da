"""A network and data that compile in a second and have all that training must get right."""

import functools

from flax import linen as nn
import jax.numpy as jnp
import numpy as np

from cnnpool import data as data_sets
from cnnpool import models
from cnnpool.configs import cifar10
from cnnpool.data.images import Split, StandardizedImages, crop_and_flip
from cnnpool.models import layers
from cnnpool.models.layers import BatchNorm, Chain, Conv, Dropout, Linear

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
TRAIN, TEST, CLASSES = 64, 50, 3


class Tiny(nn.Module):
    """Batch norm of the images themselves and of a map, dropout, a linear layer."""

    outputs: int
    dropout: float = 0.5

    @nn.compact
    def __call__(self, x, *, train):
        net = Chain(x)
        net.layer("bn00", BatchNorm, train)
        net.layer("conv01", Conv, 4, kernel_size=3, stride=2, padding=1, use_bias=False)
        net.layer("bn01", BatchNorm, train)
        net.apply("relu01", nn.relu)
        net.value = layers.flatten(net.value)
        net.layer("dropout01", Dropout, self.dropout, train)
        net.layer("linear02", Linear, self.outputs)
        return net.value, net.activations


class Flat(nn.Module):
    """One linear layer on all pixels, or on none of them: then every output is its bias."""

    outputs: int
    blind: bool = False

    @nn.compact
    def __call__(self, x, *, train):
        net = Chain(layers.flatten(nn.relu(-1 - x * x) if self.blind else x))
        net.layer("linear01", Linear, self.outputs)
        return net.value, net.activations


def stored(count, seed, *, classes=CLASSES):
    """uint8 images of 8 x 8 pixels, brighter the higher their class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    images = random.integers(0, 150, (count, 8, 8, 3)) + 40 * labels[:, None, None, None]
    return Split(jnp.asarray(images, jnp.uint8), jnp.asarray(labels, jnp.int32))


def data(*, padding=2, image_noise=0.0, classes=CLASSES):
    """Crops and flips of made-up images; `classes` None is two with labels +1 and -1."""
    train, test = stored(TRAIN, 1, classes=classes or 2), stored(TEST, 2, classes=classes or 2)
    if classes is None:
        train, test = (s._replace(labels=2 * s.labels - 1) for s in (train, test))
    view = functools.partial(crop_and_flip, padding=padding)
    return StandardizedImages(train, test, classes, "made", MEAN, STD, image_noise, view)


def config(**fields):
    """Two networks, three epochs of four steps; `fields` as section__field=value."""
    made = cifar10.get_config("paper").unlock()
    made.seeds = (0, 1)
    made.data.name, made.model.name, made.model.outputs = "tiny_images", "tiny", CLASSES
    made.training.epochs, made.training.batch_size = 3, 16
    made.training.learning_rate = 0.02
    made.runtime.steps_per_call, made.runtime.test_batch_size = 3, 16
    made.checkpoint.every_seconds = 0.0
    for name, value in fields.items():
        *sections, field = name.split("__")
        functools.reduce(getattr, sections, made)[field] = value
    return made.lock()


def install(monkeypatch, *, padding=2):
    """Makes the networks and data known to configs."""

    def build_data(section):
        classes = None if section.name == "tiny_signs" else CLASSES
        return data(padding=padding, image_noise=section.image_noise, classes=classes)

    for name in ("tiny_images", "tiny_signs"):
        monkeypatch.setitem(data_sets._BUILDERS, name, build_data)
    networks = {
        "tiny": lambda section: Tiny(section.outputs, section.alexnet_dropout),
        "flat": lambda section: Flat(section.outputs),
        "blind": lambda section: Flat(section.outputs, blind=True),
    }
    for name, build in networks.items():
        monkeypatch.setitem(models._BUILDERS, name, build)
