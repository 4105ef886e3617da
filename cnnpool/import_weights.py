r"""Imports one of torchvision's networks from a file of its parameters.

    python -m cnnpool.import_weights --model=vgg16 --state_dict=vgg16-397923af.pth \
        --workdir=runs/vgg16
    python -m cnnpool.eval --workdir=runs/vgg16 --data_dir=IMAGES --num_images=500 --out=vgg16.nc

Reads files written by `torch.save(model.state_dict(), FILE)`, and safetensors, whatever their
names; neither torch nor any code in the file is run. In the checkpoint of a training program, the
state_dict is searched for; if there are several, choose one with --key. If the file contains only
the parameters of the features, the network ends with its features. --mean and --std normalize the
images of the network, one number per channel, for pixels from 0 to 1. Their defaults are
torchvision's, 0.485,0.456,0.406 and 0.229,0.224,0.225 (other values for vgg16_features).

Writes a folder like that of cnnpool.pack, with networks.npz in float32.
"""

from collections.abc import Sequence

from cnnpool import command_line
from cnnpool.errors import check_known
from cnnpool.files import storage
from cnnpool.importing.torchvision_networks import NETWORKS


def main(argv: Sequence[str]) -> None:
    """Runs the command."""
    parser = command_line.parser(__doc__, "cnnpool.import_weights")
    parser.add_argument("--model", required=True, help=f"one of {', '.join(NETWORKS)}")
    parser.add_argument(
        "--state_dict", type=storage.on_disk, required=True, help="the file of parameters"
    )
    parser.add_argument(
        "--key", help="location of the state_dict in the file, such as model_ema (searched for)"
    )
    parser.add_argument("--workdir", type=storage.path, required=True, help="the folder to write")
    numbers = command_line.numbers(float)
    parser.add_argument("--mean", type=numbers, help="mean of each channel (torchvision's)")
    parser.add_argument(
        "--std", type=numbers, help="standard deviation of each channel (torchvision's)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other networks")
    args = parser.parse_args(argv)
    command_line.check_writable(args.workdir / "summary.json")
    check_known(args.model, NETWORKS, "--model")
    options = {"mean": args.mean, "std": args.std, "overwrite": args.overwrite, "key": args.key}
    # Slow to import, so only now.
    from cnnpool.devices import numerics
    from cnnpool.importing.weights import import_weights

    numerics.settle()
    imported = import_weights(args.model, args.state_dict, args.workdir, **options)
    for note in imported.notes:
        print(note)
    outputs = "" if imported.model.features_only else f", {imported.model.outputs} outputs"
    print(f"{args.model}{outputs}, in {args.workdir}")


if __name__ == "__main__":
    command_line.run(main)
