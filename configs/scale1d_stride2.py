"""The strided variant: F = s = 2 in every layer, task 2 on a longer ring.

    python -m cnnpool.train --config=configs/scale1d_stride2.py --workdir=runs/stride2

See docs/protocol.md, "Scale detection in one dimension". Seven layers of stride 2 reduce L = 128 to
one position. Moves never leave a sector of 32 pixels, so that D_k of constant filters is 0 for
k >= 5.
"""

from ml_collections import ConfigDict

from cnnpool.configs import scale1d


def get_config(preset: str = "cpu") -> ConfigDict:
    """The complete, locked config of one preset, with the widths of `configs/scale1d.py`."""
    config = scale1d.get_config(preset)
    with config.unlocked():
        config.seeds = tuple(range(10))
        config.data.task = "sector"
        config.data.length = 128
        config.data.scale = 32
        config.data.gap = 0
        config.data.train_size = 1024
        config.model.depth = 7
        config.model.filter_size = 2
        config.model.stride = 2
    return config
