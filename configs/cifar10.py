r"""Classifiers on CIFAR-10: Figures 2 (left), 3, 7 (left), 8, 10; noise of the abstract.

    python -m cnnpool.train --config=configs/cifar10.py:cpu --workdir=runs/vgg11_bn
    python -m cnnpool.train --config=configs/cifar10.py:paper --config.model.name=lenet \
        --config.seeds=0,1,2,3,4 --workdir=runs/lenet

Presets (after the colon):

| preset | epochs | learning rate | for |
|---|---|---|---|
| paper | 250 | the protocol's cosine, period 0.8 | accelerators (LeNet, AlexNet: CPUs) |
| cpu (default) | 28 | one warm-up epoch, cosine down to 0 | VGG11-bn, 140 minutes on 2 CPU cores |
| lenet_cpu | 30 | as cpu | model.name=lenet, with the protocol's weight decay |
| fully_connected | 250 | constant 0.1, Adam, no decay | model.name=fully_connected_2, 4 or 6 |

`cpu` shortens the training to 28 epochs: the cosine descends to 0 once (period 1) after one warm-up
epoch, and the weight decay is twice the protocol's. With the protocol's decay and 30 epochs,
VGG11-bn overfitted: its test error was 12.3 %, its training error on augmented images 2.4 %. Data,
network and batch size are the protocol's. VGG without batch normalization may need
training.warmup_epochs in any preset.

Expected test error of the best network: LeNet 24.2 to 25.2 % in five networks of `paper`, after two
and a quarter hours on one CPU core; VGG11-bn 12.0 % with `cpu`, on JPEG copies of the images (LeNet
25.6 to 27.7 % on these). The paper gives no errors for these networks.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def get_config(preset: str = "cpu") -> ConfigDict:
    """The complete, locked config of one preset."""
    config = ConfigDict()
    config.seeds = (0,)  # one network each; of initialization, order and views of images, dropout

    config.data = ConfigDict()
    config.data.name = "cifar10"
    config.data.data_dir = placeholder(str)  # TFDS's folder; None: TFDS_DATA_DIR, its default
    config.data.image_noise = 0.0  # s, norm of the noise on every normalized image
    config.data.augmentation = True  # random crops and flips
    config.data.train_size = 0  # images; 0: all 50,000
    config.data.test_size = 0  # images; 0: all 10,000

    config.model = ConfigDict()
    config.model.name = "vgg11_bn"
    config.model.outputs = 10  # classes
    config.model.width_factor = 1.0  # scales the numbers of channels of AlexNet, VGG and ResNet
    config.model.fully_connected_width = 64  # hidden units per layer of fully connected networks
    config.model.alexnet_dropout = 0.5  # rate
    config.model.efficientnet_dropout = 0.2  # rate
    config.model.efficientnet_drop_connect = 0.0  # rate that grows with depth to this

    config.training = ConfigDict()
    config.training.loss = "cross_entropy"
    config.training.optimizer = "sgd"  # or "adam"
    config.training.learning_rate = 0.1  # lr0
    config.training.momentum = 0.9
    config.training.weight_decay = 5e-4  # L2, on tensors of two or more dimensions
    config.training.schedule = "cosine"  # or "constant"
    config.training.cosine_period = 0.8  # fraction of all epochs, after which the rate rises again
    config.training.warmup_epochs = 0  # epochs in which the rate grows linearly from 0
    config.training.clip_norm = placeholder(float)  # largest norm of the gradient; None: no limit
    config.training.batch_size = 128  # images; an incomplete last batch is dropped in each epoch
    config.training.epochs = 250
    config.training.init_from = placeholder(str)  # folder of trained networks; None: from scratch
    config.training.compute_dtype = "float32"  # or "bfloat16", on accelerators

    config.runtime = ConfigDict()
    config.runtime.mesh = ConfigDict()
    config.runtime.mesh.seed = placeholder(int)  # devices along seeds; None: as many as fit
    config.runtime.mesh.data = 1  # devices that share the batches of one network
    config.runtime.seeds_per_batch = 1  # networks vectorized together on a device
    config.runtime.steps_per_call = 20  # steps between two checks of the loss
    config.runtime.test_batch_size = 500  # images evaluated at once
    config.runtime.tensorboard = True  # write events to WORKDIR/tensorboard

    config.checkpoint = ConfigDict()
    config.checkpoint.every_seconds = 60.0  # minimum interval; checkpoints are at ends of epochs
    config.checkpoint.keep_epochs = (0,)  # checkpoints kept forever, beside the latest two

    config.measurement = ConfigDict()  # of D, G, R during training; otherwise see cnnpool.eval
    config.measurement.every_epochs = 0  # epochs between two measurements; 0: none
    config.measurement.images = 500  # P, number of test images

    if preset in ("cpu", "lenet_cpu"):
        config.training.epochs = 28
        config.training.weight_decay = 1e-3
        config.training.cosine_period = 1.0
        config.training.warmup_epochs = 1
        if preset == "lenet_cpu":
            config.model.name = "lenet"
            config.training.epochs = 30
            config.training.weight_decay = 5e-4
    elif preset == "fully_connected":
        config.model.name = "fully_connected_4"
        config.training.optimizer = "adam"
        config.training.weight_decay = 0.0
        config.training.schedule = "constant"
    elif preset != "paper":
        raise ValueError(f"preset is {preset!r}; expected cpu, lenet_cpu, paper or fully_connected")
    return config.lock()
