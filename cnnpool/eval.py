r"""Measures networks: D, G, R of every layer, filter spectra, pooling budget, errors.

    python -m cnnpool.eval --workdir=runs/vgg --stage=init,trained \
        --transforms=none,channel_shuffle --out=vgg.nc
    python -m cnnpool.eval --workdir=runs/vgg --stage=all --out=dynamics.nc
    python -m cnnpool.eval --workdir=runs/vgg --deltas=0.1,0.3,1,3 --cutoffs=3,10 --out=deltas.nc
    python -m cnnpool.eval --workdir=runs/vgg16 --data=image_folder --data_dir=IMAGES --out=vgg16.nc
    python -m cnnpool.eval --function=my_net.py:features --data_dir=IMAGES --out=mine.nc
    python -m cnnpool.eval --workdir=runs/a --stage=init,120,trained \
        --transforms=none,channel_shuffle,mean_channel_activations --out=a.nc

Writes netCDF (see `cnnpool.files.results`) and prints tables. If the output already contains the
same measurement, nothing is done.

Transforms: none, mean_channel_activations, mean_channel_filters, own_statistics (batch norm
normalizes x, tau(x) and x + eta each with the statistics of its own batch), and channel shuffles:
channel_shuffle               input channels of all convolutions except the first
channel_shuffle_image         the same, and those of the first convolution (the image's channels)
channel_shuffle_both          input and output channels of all convolutions
channel_shuffle_recalibrated  channel_shuffle, then batch norm's averages from the clean images
channel_shuffle_vectors       biases and batch-norm vectors of all convolutions; kernels stay
channel_shuffle:LAYER         only one convolution; channel_shuffle_each: each one in turn; also
                              with channel_shuffle_both and channel_shuffle_recalibrated
With none and a shuffle of all layers, the pooling budget is measured: the share of the fall of R
that remains when channels are shuffled, if R falls by more than half a decade.

--noise=white,luma,chroma measures G and R for white noise and for its two parts: luma, which is
equal in all channels of a pixel, and chroma, whose sum over the channels of a pixel is zero.

An imported network (cnnpool.import_weights) is measured on images of your choice, --data: pictures
in a folder, in one subfolder per class or all together (image_folder); ImageNet's validation images
as prepared by TensorFlow Datasets (imagenet); or images.npy in a folder (arrays), of shape
(n, height, width, channels), with pixels of uint8 or floats from 0 to 1, to which the network's
mean and std are applied. (In cnnpool.predict, floats must already be normalized.)

--function measures your own network on such images. It names an object in a Python file, which is
run:
my_net.py:features  a function from images (n, rows, columns, channels) to {layer: activations}, or
                    a network: of PyTorch, Keras, Flax or Equinox, a file NAME.onnx, or the result
                    of cnnpool.torch.features or its counterparts
'my_net.py:make()'  the result of calling `make` without arguments: one of these
Pixels from 0 to 1 are normalized and resized by --mean, --std and --image_size, by MEAN, STD and
IMAGE_SIZE in the file, or else as for ImageNet. Transforms are none and, where the kernels are
known, channel_shuffle, channel_shuffle_image and channel_shuffle_both. A changed file is measured
again.

If the command is interrupted, run it again to continue; it also continues with other values of
--transforms, --shuffles, --deltas, --cutoffs or --noise. If anything else changes, it starts over
and says so.

With several processes that share both folders, under `srun -n K`, on a TPU pod, or each with
--coordinator, --num_processes and --process_id, images are distributed over all devices.

Stages: init, numbers of epochs, all (that the run kept), trained, last. For classifiers, "trained"
is the network with the smallest test error, "last" the one after the last epoch; on the ring both
are the same. Imported networks have trained and init, torchvision's initialization with a new seed.
"""

import argparse
from collections.abc import Sequence
import sys
from typing import Any

from cnnpool import command_line
from cnnpool.files import storage
from cnnpool.library import user_file
from cnnpool.measuring.names import INTERPOLATIONS, SOURCES, parse_stages
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config

_IMAGE_FLAGS = ("mean", "std", "image_size")


def _add_settings(parser: argparse.ArgumentParser) -> list[str]:
    """Adds the flags of `Settings`; returns their names."""
    default = Settings()
    group = parser.add_argument_group("measurement (on the ring: only --draws, and one shuffle)")
    floats, integers = command_line.numbers(float), command_line.numbers(int)
    flags: dict[str, dict[str, Any]] = {
        "images": {"type": int, "help": "P, number of test images"},
        "draws": {"type": int, "help": "diffeomorphisms, and noises, per image"},
        "deltas": {
            "type": floats,
            "help": "nominal displacements in pixels, e.g. 0.1,0.3,1",
        },
        "cutoffs": {
            "type": integers,
            "help": "cut-offs c of diffeomorphisms, e.g. 3,10",
        },
        "noise": {
            "type": lambda text: tuple(part.strip() for part in text.split(",")),
            "metavar": "NOISE",
            "help": "kinds of noise, e.g. white,luma,chroma",
        },
        "interpolation": {
            "choices": sorted(INTERPOLATIONS),
            "help": "how images are deformed",
        },
        "image_noise": {
            "action": argparse.BooleanOptionalAction,
            "help": "measure D, G, R and errors on images with the noise of the training set",
        },
        "shuffles": {"type": int, "help": "random channel shuffles per network"},
        "seed": {"type": int, "help": "seed of images, diffeomorphisms, noise and shuffles"},
        "batch_size": {
            "type": int,
            "help": "images whose activations are on a device at once; 0: as many as fit 1 GiB, "
            "on a CPU at most 75",
        },
    }
    for name, options in flags.items():
        value = getattr(default, name)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        options["help"] += f" ({shown})"
        aliases = ["--num_images"] if name == "images" else []
        group.add_argument(f"--{name}", *aliases, **options)
    return list(flags)


def _add_image_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags for the preparation of images for a user's own network."""
    group = parser.add_argument_group("images of --function")
    floats, integers = command_line.numbers(float), command_line.numbers(int)
    group.add_argument(
        "--mean",
        type=floats,
        help="mean of each channel, for pixels from 0 to 1 (0.485,0.456,0.406)",
    )
    group.add_argument(
        "--std",
        type=floats,
        help="standard deviation of each channel, for pixels from 0 to 1 (0.229,0.224,0.225)",
    )
    group.add_argument(
        "--image_size",
        type=integers,
        metavar="SIZE",
        help="pixels per side, 32; or side of the central square, and shorter side before "
        "cropping, 224,256 (224,256)",
    )


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.eval")
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument(
        "--workdir",
        type=storage.path,
        help="working directory of cnnpool.train, or a folder of cnnpool.pack or import_weights",
    )
    network.add_argument(
        "--function",
        metavar="FILE.py:NAME",
        help="your own network; the code in FILE.py is run",
    )
    parser.add_argument(
        "--stage",
        default="trained",
        help="comma-separated: init, epochs, all, trained, last (%(default)s)",
    )
    parser.add_argument(
        "--transforms", default="none", help="comma-separated, see above (%(default)s)"
    )
    end = parser.add_mutually_exclusive_group(required=True)
    end.add_argument("--out", type=command_line.netcdf_path, help="the netCDF file to write")
    end.add_argument(
        "--compile_for",
        help="compile the programs of the measurement for these devices, print their memory, work "
        "and time bounds, and exit: a TPU and its shape, e.g. v5e:2x4 or v5e:2x4,slices=2 "
        "(needs libtpu, no TPU), or a number of CPU devices; reads only the folder's config",
    )
    parser.add_argument(
        "--data",
        help="kind of images for an imported network or your own: "
        f"{', '.join(SOURCES)} (image_folder)",
    )
    parser.add_argument("--data_dir", help="folder of the images, instead of the run's")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an output with another measurement"
    )
    parser.add_argument(
        "--all_units", action="store_true", help="print all units, not only the last of each layer"
    )
    names = _add_settings(parser)
    _add_image_flags(parser)
    command_line.add_process_flags(parser)
    args = parser.parse_args(argv)
    stages = parse_stages(args.stage)
    if args.function is not None and args.compile_for is not None:
        parser.error("--compile_for is for the networks of a folder, --workdir")
    args.function = args.function and user_file.parse(args.function)
    # Slow to import, so only now.
    from cnnpool.devices import distributed, numerics

    numerics.settle()
    if args.compile_for is not None:
        _compile(args, names)
        return
    with distributed.ending_together():
        processes = distributed.join(
            coordinator=args.coordinator,
            process_id=args.process_id,
            num_processes=args.num_processes,
        )
        _evaluate(args, stages, names, processes)


def _given(args: argparse.Namespace, names: Sequence[str]) -> dict[str, Any]:
    """The fields of `Settings` that are set by flags."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _transforms(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(name.strip() for name in args.transforms.split(","))


def _compile(args: argparse.Namespace, names: Sequence[str]) -> None:
    from cnnpool.compiling import command, measurement_programs, topology

    settings, transforms = Settings(**_given(args, names)), _transforms(args)
    topology.prepare(args.compile_for)
    command.run(
        args.compile_for,
        lambda devices: measurement_programs.programs(args.workdir, settings, transforms, devices),
    )


def _evaluate(
    args: argparse.Namespace, stages: Sequence[str], names: Sequence[str], processes: int
) -> None:
    from cnnpool.devices import distributed
    from cnnpool.instruments.sensitivity import few_images
    from cnnpool.measuring import tables
    from cnnpool.measuring.evaluation import evaluate_run as evaluate

    given, transforms = _given(args, names), _transforms(args)
    if "shuffles" in given and not any(name.startswith("channel_shuffle") for name in transforms):
        raise ValueError(
            f"--shuffles={args.shuffles}, but --transforms={args.transforms} shuffles nothing; "
            "omit it, or add a channel_shuffle"
        )
    run = (_own_network if args.function else _stored_networks)(args, given, processes)
    dataset = evaluate(
        run, args.out, stages=stages, transforms=transforms, overwrite=args.overwrite
    )
    if not distributed.is_first():
        return
    print(tables.layer_table(dataset, all_units=args.all_units))
    if "test_loss" in dataset:
        print(f"\n{tables.error_table(dataset)}")
    if "spatial_share" in dataset:
        print(f"\n{tables.budget_table(dataset)}")
    if note := few_images(run.settings.images):
        print(f"\n{note}")
    print(f"\nin {args.out}")


def _stored_networks(args: argparse.Namespace, settings: dict[str, Any], processes: int) -> Any:
    """The networks of a folder, with JAX set up for as many devices as they use."""
    from cnnpool.devices import runtime
    from cnnpool.measuring import runs

    for flag in _IMAGE_FLAGS:
        if getattr(args, flag) is not None:
            raise ValueError(f"--{flag} requires --function; the networks of a folder have theirs")
    config = run_config.load(args.workdir)
    if not run_config.is_on_ring(config):
        runtime.one_cpu_device_per_core(len(config.seeds), processes=processes)
        runtime.use_compilation_cache()
    return runs.open(args.workdir, data=args.data, data_dir=args.data_dir, settings=settings)


def _own_network(args: argparse.Namespace, settings: dict[str, Any], processes: int) -> Any:
    """The network in a user's file, whose code is run here."""
    from cnnpool.devices import runtime
    from cnnpool.library import function_run

    if processes > 1:
        raise ValueError(
            f"--function expects a single process, got {processes}: use --num_processes=1"
        )
    runtime.use_compilation_cache()
    run = function_run.open(
        args.function,
        data=args.data or SOURCES[0],
        data_dir=args.data_dir,
        images={flag: getattr(args, flag) for flag in _IMAGE_FLAGS},
        settings=settings,
    )
    print(run.told, file=sys.stderr)
    return run


if __name__ == "__main__":
    command_line.run(main)
