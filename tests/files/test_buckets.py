"""Runs and results in buckets, asked of emulators: gcp-storage-emulator for gs://, moto for s3://.

`make emulators` installs them.
"""

import importlib.util
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import jax
import numpy as np
import pytest

from cnnpool.files import results, storage
from cnnpool.files.atomic_write import write_atomically
from cnnpool.files.storage import StorageError
from cnnpool.launch import reproduce, sweep
from cnnpool.measuring import runs
from cnnpool.measuring.packing import pack
from cnnpool.runs import lease
from cnnpool.training.checkpoints import CheckpointError, CheckpointStore
from tests import processes, tiny_images, tiny_sweep
from tests.files.test_results import dataset as network

_NEEDED = ("gcp_storage_emulator", "gcsfs", "moto", "flask", "s3fs")
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in _NEEDED),
    reason="emulators of buckets are not installed: make emulators",
)

BUCKET = "mine"
EPOCHS = 40


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(words: list[str], address: str) -> subprocess.Popen:
    server = subprocess.Popen(
        words, cwd=processes.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return server
        except urllib.error.HTTPError:
            return server
        except OSError:
            time.sleep(0.2)
    server.kill()
    pytest.fail(f"{words} does not answer")


@pytest.fixture(scope="module")
def emulators():
    """Both services, known to this process and those that it starts; the bucket `mine` in each."""
    gcs, s3 = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    servers = [
        start([sys.executable, "-m", module, *words, address.rpartition(":")[2]], address)
        for module, words, address in (
            ("tests.gcs_emulator", (), gcs),
            ("moto.server", ("-p",), s3),
        )
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "STORAGE_EMULATOR_HOST": gcs,
            "TENSORSTORE_GCS_HTTP_URL": gcs,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "NO_GCE_CHECK": "true",
            "AWS_ENDPOINT_URL": s3,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        import gcsfs  # reads the environment
        import s3fs

        gcsfs.GCSFileSystem().mkdir(BUCKET)
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield
    for server in servers:
        server.kill()
        server.communicate()


def copy_of(place: Path, folder: Path) -> Path:
    """A folder of the bucket on the disk."""
    import gcsfs

    gcsfs.GCSFileSystem().get(str(place), str(folder), recursive=True)
    return folder


@pytest.mark.slow
def test_a_run_in_a_bucket_killed_and_asked_to_end_is_that_on_a_disk(
    tmp_path, emulators, monkeypatch
):
    alone, place = tmp_path / "alone", storage.path(f"gs://{BUCKET}/runs/a b")
    fields = {"training__epochs": EPOCHS, "runtime__mesh__data": 1, "runtime__steps_per_call": 4}
    ends = processes.finish([processes.start(alone, **fields)])
    assert ends[0][0] == 0, ends

    def training():
        options = {"checkpoint__every_seconds": 1.0, "runtime__tensorboard": True}
        return processes.start(place, **options, **fields)

    monkeypatch.setenv(processes.SLOWLY, "1")
    for number in (signal.SIGKILL, signal.SIGTERM):
        before, running = saved(place), training()
        deadline = time.monotonic() + 120
        while saved(place) <= before and running.poll() is None and time.monotonic() < deadline:
            time.sleep(1)
        running.send_signal(number)
        status, _, errors = processes.finish([running])[0]
        assert status == (75 if number == signal.SIGTERM else -number), errors
    assert before < saved(place) < EPOCHS
    monkeypatch.delenv(processes.SLOWLY)

    ends = processes.finish([training()])
    assert ends[0][0] == 0, ends
    job = copy_of(place, tmp_path / "job")
    found, expected = (processes.checkpoints(folder)[EPOCHS] for folder in (job, alone))
    assert found["checksum"] == expected["checksum"]
    assert found["progress"] == expected["progress"]
    assert any((job / "tensorboard").iterdir())
    assert not (job / lease.LEASE).exists()

    tiny_images.install(monkeypatch)
    folders = {storage.path(f"gs://{BUCKET}/packed"): place, tmp_path / "packed": job}
    packed = [pack(run, out) for out, run in folders.items()]
    assert packed[0] == packed[1]
    theirs, ours = (runs.open(out).networks("trained")[0].variables for out in folders)
    for one, other in zip(jax.tree.leaves(theirs), jax.tree.leaves(ours), strict=True):
        np.testing.assert_array_equal(one, other)


def saved(place: Path) -> int:
    """The last complete checkpoint of a run in the bucket; -1 where there is none."""
    folder = place / "checkpoints"
    with CheckpointStore(folder, read_only=True) as store:
        return max(store.epochs, default=-1)


@pytest.mark.slow
def test_a_measurement_in_a_bucket_is_that_on_a_disk(tmp_path, emulators):
    flags = [f"--config.{name.replace('__', '.')}={value}" for name, value in SIMPLE.items()]
    found = {}
    for place in (tmp_path / "run", storage.path(f"gs://{BUCKET}/run")):
        train = ["--config=configs/scale1d.py:quick", f"--workdir={place}", *flags]
        measure = [f"--workdir={place}", f"--out={place}.nc", "--stage=init,trained"]
        for module, words in (("cnnpool.train", train), ("cnnpool.eval", measure)):
            ends = processes.finish([processes.start_module(module, *words)])
            assert ends[0][0] == 0, ends
        found[place] = results.read(place.with_name("run.nc"))
    one, two = (ds.drop_vars("training_seconds", errors="ignore") for ds in found.values())
    assert one.equals(two)
    export = [f"gs://{BUCKET}/run.nc", "--to=npz"]
    ends = processes.finish([processes.start_module("cnnpool.export", *export)])
    assert ends[0][0] == 0, ends
    with storage.local_copy(storage.path(f"gs://{BUCKET}/run.npz")) as path, np.load(path) as file:
        assert any(name.endswith("D") for name in file)


SIMPLE = {**tiny_sweep.TINY, "training__ridge": 0.02, "runtime__log_every": 50}


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_results_are_written_and_read(emulators, scheme):
    place = storage.path(f"{scheme}://{BUCKET}/results/a.nc")
    dataset = network()
    results.write(place, dataset)
    assert results.read(place).equals(dataset)
    with pytest.raises(ZeroDivisionError):
        write_atomically(place, lambda local: [local.write_text("half"), 1 / 0])
    assert results.read(place).equals(dataset), "what failed replaces nothing"
    storage.remove_tree(place.parent)
    storage.remove_tree(place.parent)
    with pytest.raises(FileNotFoundError, match=r"no result file gs|s3"):
        results.read(place)


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_bucket_that_is_not_there_is_named(emulators, scheme):
    with pytest.raises(StorageError, match=f"cannot write {scheme}://nobodys/a.nc"):
        results.write(storage.path(f"{scheme}://nobodys/a.nc"), network())


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_bucket_is_held_by_one(emulators, scheme):
    place = storage.path(f"{scheme}://{BUCKET}/held")
    beat = 0.2
    with (
        lease.hold(place, beat_seconds=beat),
        pytest.raises(lease.WorkdirBusyError, match=rf"process {os.getpid()} on "),
        lease.hold(place, beat_seconds=beat),
    ):
        pass
    with pytest.raises(ZeroDivisionError), lease.hold(place, beat_seconds=beat):
        1 / 0  # noqa: B018
    (place / lease.LEASE).write_text('{"host": "elsewhere", "pid": 1, "owner": "dead"}')
    with lease.hold(place, beat_seconds=beat):
        assert '"dead"' not in (place / lease.LEASE).read_text()


def test_checkpoints_in_s3_are_refused_before_training(emulators):
    with pytest.raises(CheckpointError, match="mount the bucket"):
        CheckpointStore(storage.path(f"s3://{BUCKET}/run/checkpoints"))


@pytest.mark.parametrize("text", ["http://a/b", "gs://", "s3:///"])
def test_what_is_no_bucket_is_refused(text):
    with pytest.raises(StorageError, match="expected a folder, gs://BUCKET"):
        storage.path(text)


def test_what_must_be_on_a_disk_makes_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match="mount the bucket"):
        reproduce.main(["fig4", "--preset=quick", f"--runs=gs://{BUCKET}/runs"])
    with pytest.raises(StorageError, match="mount the bucket"):
        sweep.main(["--sweep=a.py", f"--root=gs://{BUCKET}/runs"])
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StorageError, match=r"needs gcsfs: pip install 'cnnpool\[bucket\]'"):
        storage.path("gs://mine/run")
    assert storage.path("runs/a") == Path("runs/a")
