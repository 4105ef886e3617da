r"""Makes a network of torchvision from a file of its parameters, for cnnpool.eval and predict.

    python -m cnnpool.import_weights --model=vgg16 --state_dict=vgg16-397923af.pth \
        --workdir=runs/vgg16
    python -m cnnpool.eval --workdir=runs/vgg16 --data_dir=IMAGES --num_images=500 --out=vgg16.nc

Reads what `torch.save(model.state_dict(), FILE)` wrote, and safetensors, whatever the file is
called; neither torch nor any code in the file is run. In a checkpoint of a training program the
state_dict is searched for; --key says which one, where there are several. Parameters of the
features alone give a network that ends with them. --mean and --std are what the network's images
are normalized with, one number per channel, pixels counting from 0 to 1; the defaults are
torchvision's for this file: 0.485,0.456,0.406 and 0.229,0.224,0.225, but for vgg16_features.
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
    parser.add_argument("--state_dict", type=storage.on_disk, required=True, help="the file")
    parser.add_argument("--key", help="of the state_dict in the file, model_ema (searched for)")
    parser.add_argument("--workdir", type=storage.path, required=True, help="the folder to make")
    numbers = command_line.numbers(float)
    parser.add_argument("--mean", type=numbers, help="of the images (torchvision's)")
    parser.add_argument("--std", type=numbers, help="of the images (torchvision's)")
    parser.add_argument("--overwrite", action="store_true", help="replace an imported network")
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
