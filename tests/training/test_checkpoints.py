"""Checkpoints: what is read is what was written, or an error that says what is still good."""

from pathlib import Path
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnpool.devices.runtime import DeviceError
from cnnpool.training import checkpoints
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore, RunState
from cnnpool.training.stopping import RingProgress

pytestmark = [
    pytest.mark.usefixtures("failing_restores"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PROGRESS = (
    RingProgress(0, 30, 90, 0.0, 0.0),
    RingProgress(7, interpolation_epoch=None, stopped_epoch=None, train_hinge=0.25),
)


def state(epoch, size=64):
    keys = jax.random.split(jax.random.key(epoch))
    params = {
        "conv01": {
            "kernel": jax.random.normal(keys[0], (2, 3, 1, size)),
            "bias": jnp.ones((2, size)),
        },
        "linear": {"kernel": jax.random.normal(keys[1], (2, size, 1))},
    }
    return RunState(epoch, params, PROGRESS, seconds=1.5 * epoch)


def like(size=64):
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state(0, size).networks
    )


@pytest.fixture
def written(tmp_path):
    """A store with checkpoints of epochs 0, 20, 30; 10 has made room."""
    with CheckpointStore(tmp_path / "c", keep_epochs=(0,)) as store:
        for epoch in (0, 10, 20, 30):
            store.save(state(epoch))
    return tmp_path / "c"


def open_store(path):
    return CheckpointStore(path, read_only=True)


def largest_file(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_what_is_read_is_what_was_written(written):
    with open_store(written) as store:
        found = store.restore(30, like(), seeds=(0, 7))
    expected = state(30)
    assert (found.epoch, found.progress, found.seconds) == (30, PROGRESS, 45.0)
    leaves = [jax.tree.leaves(one.networks) for one in (found, expected)]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)


def test_kept_and_latest_checkpoints_stay(written):
    with open_store(written) as store:
        assert store.epochs == [0, 20, 30]


def test_one_call_deletes_what_is_not_needed(written):
    with CheckpointStore(written, keep_epochs=(0,)) as store:
        assert store.delete_all_but([0, 30]) == [20]
        assert store.epochs == [0, 30]


def test_an_absent_checkpoint_is_named(written):
    with (
        open_store(written) as store,
        pytest.raises(CheckpointError, match=r"no checkpoint of epoch 25.*\[0, 20, 30\]"),
    ):
        store.restore(25, like(), seeds=(0, 7))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_damaged_checkpoint_is_refused_and_the_latest_good_one_named(written, damage):
    damage(largest_file(written / "30" / "params"))
    with open_store(written) as store:
        with pytest.raises(
            CheckpointError, match=r"30 is damaged.*latest good one is epoch 20.*--stage=20"
        ):
            store.restore(30, like(), seeds=(0, 7))
        assert store.restore(20, like(), seeds=(0, 7)).epoch == 20, "the good one must be usable"


def test_damaged_progress_is_refused(written):
    truncate(largest_file(written / "30" / "progress"))
    with (
        open_store(written) as store,
        pytest.raises(CheckpointError, match="latest good one is epoch 20"),
    ):
        store.restore(30, like(), seeds=(0, 7))


def test_a_checkpoint_of_another_network_is_refused(written):
    with (
        open_store(written) as store,
        pytest.raises(CheckpointError, match="damaged or of another network"),
    ):
        store.restore(30, like(size=65), seeds=(0, 7))


def test_an_unwritable_place_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot open checkpoints"):
        CheckpointStore(tmp_path / "file" / "c")


FULL_DISK = """
import sys
from pathlib import Path
import resource
from tests.training.test_checkpoints import state
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore

with CheckpointStore(Path(sys.argv[1])) as store:
    store.save(state(10))
    store.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        store.save(state(20, size=100_000))
        store.wait()
    except CheckpointError as error:
        print(error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        sys.stdout.flush()
        import os
        os._exit(3)
"""


def test_a_full_disk_is_an_error_and_nothing_that_existed_is_lost(tmp_path):
    """The limit on a file's size makes writes fail as a full disk does."""
    assert resource.RLIMIT_FSIZE is not None
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "c")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 3, found.stderr[-2000:]
    assert "cannot write checkpoints" in found.stdout
    assert "Complete checkpoints there: epoch 10." in found.stdout
    with open_store(tmp_path / "c") as store:
        assert store.epochs == [10]
        assert store.restore(10, like(), seeds=(0, 7)).epoch == 10


def test_a_checkpoint_of_other_seeds_is_refused(written):
    with (
        open_store(written) as store,
        pytest.raises(CheckpointError, match="another config: expected seeds"),
    ):
        store.restore(30, like(), seeds=(0, 1))


def test_processes_wait_for_the_first_whether_or_not_they_see_its_file(tmp_path, monkeypatch):
    """Of two that start together one may find the file that the other has just written."""
    waited = []

    def on_first(action):
        waited.append(action)
        action()

    monkeypatch.setattr(checkpoints.distributed, "on_first", on_first)
    for _ in range(2):
        with CheckpointStore(tmp_path / "checkpoints", steps_per_epoch=4):
            pass
    assert len(waited) == 2
    assert (tmp_path / "checkpoints" / "steps_per_epoch").read_text() == "4\n"


def test_a_device_that_is_not_there_is_not_called_a_full_disk(written, monkeypatch):
    def devices(*_):
        raise RuntimeError("Unknown backend: 'gpu' requested")

    monkeypatch.setenv("JAX_PLATFORM_NAME", "gpu")
    with CheckpointStore(written, read_only=True) as store:
        monkeypatch.setattr(jax, "devices", devices)
        with (
            pytest.raises(
                DeviceError, match=r"no device .*JAX_PLATFORM_NAME=gpu\): Unknown backend"
            ),
            store._explained("read"),
        ):
            jax.devices()
