"""The network of `networks` in Keras, on the backend of this process; also a program.

`python -m tests.library.keras_networks` measures it, as a backend can be chosen once a process.
"""

import keras
import numpy as np

import cnnpool as cp
from tests.library.networks import assert_is_the_definition, images, weights


def net(data_format="channels_last", size=12):
    """Sequential, one part of it inside the other; dropout and normalization do nothing."""
    form = {"data_format": data_format}
    first = data_format == "channels_first"
    shape = (8, size - 2, size - 2) if first else (size - 2, size - 2, 8)
    inner = [
        keras.Input(shape),
        keras.layers.Conv2D(16, 3, use_bias=False, activation=None, name="conv2", **form),
        keras.layers.BatchNormalization(epsilon=0, axis=1 if first else -1, name="bn"),
        keras.layers.ReLU(name="relu2"),
    ]
    model = keras.Sequential(
        [
            keras.Input((3, size, size) if first else (size, size, 3)),
            keras.layers.Conv2D(8, 3, use_bias=False, name="conv1", **form),
            keras.layers.ReLU(name="relu1"),
            keras.layers.Dropout(0.5, name="dropout"),
            keras.Sequential(inner, name="block"),
            keras.layers.GlobalAveragePooling2D(name="pooled", **form),
            keras.layers.Dense(5, use_bias=False, name="linear"),
        ],
        name="net",
    )
    kernels = weights()
    model.get_layer("conv1").kernel.assign(kernels["conv1"])
    model.get_layer("block").get_layer("conv2").kernel.assign(kernels["conv2"])
    model.get_layer("linear").kernel.assign(kernels["linear"])
    return model


class Subclass(keras.Model):
    """A layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.same = keras.layers.Conv2D(3, 3, name="same")
        self.head = keras.layers.Dense(2, use_bias=False, name="head")

    def call(self, x):
        return {"loss": keras.ops.sum(self.head(self.same(self.same(x))))}


def main():
    """Writes what the test compares."""
    for data_format in ("channels_last", "channels_first"):
        model = net(data_format)
        transforms = ("none", "channel_shuffle", "channel_shuffle_both")
        found = cp.measure(model, images(), transforms=transforms, shuffles=2)
        plain = found.sel(transform="none", shuffle=0)
        assert_is_the_definition(plain, cp.keras.features(model), images())
        cp.save(found, f"{keras.backend.backend()}-{data_format}.nc")
        shapes = cp.keras.features(model, ["*"])(images(2))
        print({name: np.shape(f) for name, f in shapes.items()})


if __name__ == "__main__":
    main()
