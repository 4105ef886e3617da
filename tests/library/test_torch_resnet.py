"""A ResNet18 in PyTorch against the same weights through `import_weights`."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="not installed: pip install cnnpool[torch]")

import cnnpool as cp
from cnnpool.importing import weights
from cnnpool.importing.torchvision_names import layer_names
from tests.library.networks import images
from tests.oracles import torchvision_networks


@pytest.mark.slow
def test_a_resnet18_is_the_one_imported(tmp_path):
    """D, G and R to the rounding of float32, of which 3e-6 was seen.

    Errors of D and G come from random projections, which are others where units share their sums.
    Initialized by PyTorch, its batch normalization as after a training, with statistics and gains
    of its own.
    """
    torch.manual_seed(0)
    module = torchvision_networks.build("resnet18").float()
    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(one.weight, 0.5, 1.5)
            torch.nn.init.uniform_(one.running_var, 0.5, 1.5)
            torch.nn.init.normal_(one.running_mean, std=0.1)
            torch.nn.init.normal_(one.bias, std=0.1)
    torch.save(module.state_dict(), tmp_path / "resnet18.pth")
    weights.import_weights("resnet18", tmp_path / "resnet18.pth", tmp_path / "run")
    (imported,) = cp.open(tmp_path / "run").networks()
    x = images(size=32)
    ours = cp.measure(imported, x)
    theirs = cp.measure(module, x)
    names = layer_names("resnet18", ours["layer"].values.tolist())
    weighed = {unit: name for unit, name in names.items() if name in theirs["layer"]}
    assert len(weighed) == len(theirs["layer"]) == 21, "20 convolutions, skips too, and the end"
    for name in ("D", "G", "R", "D_se", "G_se", "R_se"):
        np.testing.assert_allclose(
            theirs[name].sel(layer=list(weighed.values())).values,
            ours[name].sel(layer=list(weighed)).values,
            rtol=1e-2 if name in ("D_se", "G_se") else 2e-5,
            err_msg=name,
        )
