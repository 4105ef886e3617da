"""Starting a training from networks that were trained before."""

from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from cnnpool.training.variables import Variables

_READOUT = "linear"  # prefix of the names of fully connected layers


def transplanted(fresh: Variables, given: Variables) -> tuple[Variables, list[str]]:
    """Copies the variables of `given` into the network of `fresh`.

    Fully connected layers that do not fit are kept from `fresh`, so that training can start from a
    network trained on other classes, or on images of another size.

    Args:
      fresh: variables of the network that is to be trained.
      given: variables of the trained network.

    Returns:
      The variables of the new network, and the names of the layers kept from `fresh`.

    Raises:
      ValueError: if any other layer is missing in one of them, or has a different shape.
    """
    own, other = ({p: a for t in one for p, a in flatten_dict(t).items()} for one in (fresh, given))
    misfits = {
        path[0]
        for path in {*own, *other}
        if path not in own or path not in other or own[path].shape != other[path].shape
    }
    wrong = sorted(layer for layer in misfits if not layer.startswith(_READOUT))
    if wrong or not own.keys() & other.keys():
        raise ValueError(
            "the networks of training.init_from are of another architecture: "
            f"{_described(wrong, own, other)}; give the model and the width that they were trained "
            "with"
        )

    def tree(fresh_tree: Any, given_tree: Any) -> Any:
        taken = flatten_dict(given_tree)
        return unflatten_dict(
            {
                path: leaf if path[0] in misfits else taken[path]
                for path, leaf in flatten_dict(fresh_tree).items()
            }
        )

    stays = sorted(misfits & {path[0] for path in own})
    return Variables(*map(tree, fresh, given)), stays


def _described(layers: list[str], own: dict, other: dict) -> str:
    def shapes(variables: dict, layer: str) -> str:
        found = [str(a.shape) for path, a in variables.items() if path[0] == layer]
        return " and ".join(found) or "nothing"

    shown = [f"{one} is {shapes(other, one)}, expected {shapes(own, one)}" for one in layers[:3]]
    more = f", and {len(layers) - 3} more" if len(layers) > 3 else ""
    return ", ".join(shown) + more if layers else "they have no layer in common"
