"""Figure 4 and Table 1: simple CNNs on 1-D scale detection, F = 3, stride 1.

    python -m cnnpool.train --config=configs/scale1d.py:cpu --workdir=runs/fig4-cpu

or, with measurement and figure, `python -m launch.reproduce fig4 --preset=cpu`.

Presets (after the colon):

| preset | width H | four networks on 2 CPU cores, trained and measured |
|---|---|---|
| quick | 64 | 1 minute |
| cpu (default) | 256 | 8 minutes |
| paper | 1000 | 90 minutes |

All follow the paper's protocol; the paper has 1000 channels. Training stops at 500 times the
interpolation epoch, which is 20-60. Expected: test error 0, and slopes over k = 2..9 close to
those of constant filters on the finite ring, -1.69 for D_k and +0.85 for G_k (asymptotically -2
and +1).
"""

from ml_collections import ConfigDict


def get_config(preset: str = "cpu") -> ConfigDict:
    """The complete, locked config of one preset."""
    config = ConfigDict()
    config.seeds = (0, 1, 2, 3)  # one network each; of initialization, training set and batches

    config.data = ConfigDict()
    config.data.name = "scale1d"
    config.data.task = "distance"  # task 1; "sector" is task 2
    config.data.length = 32  # L, pixels of the ring
    config.data.scale = 11  # xi, pixels
    config.data.gap = 4  # g, whole width of the gap, pixels
    config.data.boundary = "wrap"  # of diffeomorphisms; "clip" as in the authors' programs
    config.data.train_size = 48  # P, half of each class

    config.model = ConfigDict()
    config.model.name = "simple_cnn"
    config.model.width = 256  # H, channels
    config.model.depth = 12  # K, convolutions
    config.model.filter_size = 3  # F, taps
    config.model.stride = 1  # s, pixels

    config.training = ConfigDict()
    config.training.ridge = 0.01  # coefficient of sum_k ||W_k||^2 / (H K)
    config.training.learning_rate_per_channel = 0.01  # learning rate / H
    config.training.batch_size = 8  # images; divides train_size
    config.training.check_every = 10  # epochs
    config.training.multiple = 500  # training stops at this multiple of the interpolation epoch
    config.training.max_epochs = 600_000  # a multiple of check_every
    config.training.divergence = 1e6  # a larger mean hinge loss ends the run with an error
    config.training.skip_zero_gradients = True  # no work where the loss is 0; same parameters

    config.runtime = ConfigDict()
    config.runtime.seeds_per_batch = 1  # networks vectorized together on a device
    config.runtime.log_every = 100  # epochs between rows of metrics.csv, at most

    config.checkpoint = ConfigDict()
    config.checkpoint.every_seconds = 60.0
    config.checkpoint.keep_epochs = (0,)  # checkpoints kept forever, beside the latest two

    config.measurement = ConfigDict()
    config.measurement.draws = 8  # moves, and noises, per image
    config.measurement.batch_size = 368  # images whose activations are in memory at once
    config.measurement.seed = 0  # of moves, noise and channel shuffles

    if preset == "quick":
        config.model.width = 64
        config.checkpoint.every_seconds = 10.0
    elif preset == "paper":
        config.model.width = 1000
    elif preset != "cpu":
        raise ValueError(f"preset is {preset!r}; expected quick, cpu or paper")
    return config.lock()
