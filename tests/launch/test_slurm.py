"""A sweep on a real Slurm through all three commands: requeued, cancelled, failed, collected."""

import contextlib
import io
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import time

import pytest

from cnnpool.files import results
from cnnpool.launch import collect, job_states, status, sweep
from cnnpool.runs import lease, run_status
from tests.paths import ROOT

SCRIPT = ROOT / "launch" / "local_slurm.sh"
NASTY = 'it\'s "a" $(touch pwned) `touch pwned`; touch pwned &\nnew line %A *'
PROGRAMS = ("slurmctld", "slurmd", "munged")


@contextlib.contextmanager
def cluster(cpus, nodes=1):
    """Nodes of so many CPUs, without RequeueExit; started here, unless it is up."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    if os.getuid() != 0:
        pytest.skip("not root, who alone can start slurmd")
    conf = Path("/etc/slurm/slurm.conf")
    if conf.exists():
        is_up = subprocess.run([SCRIPT, "is_up"], timeout=60).returncode == 0
        if is_up or SCRIPT.name not in conf.read_text():
            pytest.skip(f"{conf} is of a cluster that is here already")
        subprocess.run([SCRIPT, "stop"], check=True, timeout=60)  # left by a run that was killed
    environment = os.environ | {"LOCAL_REQUEUE_EXIT": ""}
    words = [SCRIPT, "start", str(cpus), str(nodes)]
    subprocess.run(words, check=True, env=environment, timeout=60)
    try:
        yield
    finally:
        subprocess.run([SCRIPT, "stop"], check=True, timeout=60)


@pytest.fixture(scope="module")
def slurm():
    """One node with four slots."""
    with cluster(4):
        yield


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A root whose name a shell must not read, and an environment of one device a process."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OUTER_SECRET", "do not write this down")
    here = tmp_path / NASTY
    here.mkdir()
    monkeypatch.chdir(here)
    return here / NASTY


def call(command, place, preset, *flags):
    """What a command prints."""
    out = io.StringIO()
    words = [f"--sweep={ROOT / 'tests' / 'tiny_sweep.py'}", f"--preset={preset}"]
    with contextlib.redirect_stdout(out):
        command.main([*words, f"--root={place}", *flags])
    return out.getvalue()


def submit(place, preset, *flags):
    return call(sweep, place, preset, "--engine=slurm", f"--job_name={NASTY}", *flags)


def wait_for(condition, seconds=150):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it never came; {found!r}"
        time.sleep(0.3)
    return found


def squeue(number, what):
    command = ["squeue", "-h", "-j", number, "--states=all", "-o", what]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def folders(place):
    return sorted(path for path in place.iterdir() if (path / "submission.json").exists())


def slurm_id(folder):
    return job_states.read_submission(folder)["id"]


def is_training(folder):
    found = run_status.read(folder)
    return found is not None and found.state == run_status.RUNNING and (found.epoch or 0) > 0


def restarts(number):
    command = ["scontrol", "show", "job", number]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Restarts=(\d+)", shown)[1])


@pytest.mark.slow
def test_a_sweep_with_signals_is_collected(slurm, place):
    """The batch process gets SIGUSR1, as before a time limit, and goes back into the queue."""
    before = sorted(path.name for path in place.parent.iterdir())
    text = submit(place, "good", "--dry_run")
    assert "sbatch --parsable --requeue --array=0-1 " in text
    assert sorted(path.name for path in place.parent.iterdir()) == before, (
        "a dry run writes nothing"
    )
    with pytest.raises(SystemExit):
        submit(place / "\\", "good")
    assert "2 to start" in submit(place, "good", "--time=10")
    first = folders(place)[0]
    number = slurm_id(first)
    assert squeue(number, "%j") == NASTY
    wait_for(lambda: run_status.read(first), seconds=60)
    subprocess.run(["scancel", "--batch", "--signal=USR1", number], check=True)
    wait_for(lambda: run_status.read(first).state == run_status.PREEMPTED)
    assert "0 to start" in submit(place, "good"), "it is in the queue"
    wait_for(lambda: "2 finished" in call(status, place, "good"))
    assert restarts(number) == 1
    assert squeue(number, "%k") == job_states.read_submission(first)["token"]
    assert "0 to start" in submit(place, "good"), "the same sweep runs nothing twice"
    assert "stopped by SIGUSR1" in (first / "log.txt").read_text()
    out = place.parent / "good.nc"
    assert "all 2 jobs are finished" in call(collect, place, "good", f"--out={out}")
    networks = results.read_networks(out)
    assert [dataset.sizes["seed"] for dataset in networks.values()] == [2, 2]
    for path in place.parent.rglob("*"):
        assert path.name != "pwned", "a shell has read a user's string"
        if path.is_file() and path.suffix in (".json", ".txt", ".out"):
            assert "do not write this down" not in path.read_text()


@pytest.mark.slow
def test_cancelled_jobs_stay_cancelled_and_failed_ones_say_why(slurm, place):
    preset = "endless+diverging"
    submit(place, preset)
    assert "2 to start" not in submit(place, preset)
    wait_for(lambda: "1 failed" in call(status, place, preset))
    (line,) = [line for line in call(status, place, preset).splitlines() if " failed  " in line]
    assert "seed 0 diverged: hinge loss" in line
    (endless,) = [path for path in folders(place) if path.name not in line]
    wait_for(lambda: is_training(endless))
    record = job_states.read_submission(endless)
    number = record.pop("id")
    job_states.write_submission(endless, record)  # as if the launcher had been killed
    assert "1 jobs told to stop" in call(status, place, preset, "--cancel")
    wait_for(lambda: squeue(number, "%T") == "CANCELLED")
    text = call(status, place, preset)
    assert "stopped by SIGTERM" in text
    assert "1 failed, 1 stopped" in text
    assert max(int(path.name) for path in (endless / "checkpoints").glob("[0-9]*")) > 0, (
        "it was saved"
    )
    assert "1 to start" in submit(place, preset, "--dry_run"), "what is cancelled may go on"
    assert "2 to start" in submit(place, preset, "--dry_run", "--retry_failed")
    (failed,) = [path for path in folders(place) if path.name in line]
    before = slurm_id(failed)
    assert "1 failed jobs to start again" in call(status, place, preset, "--retry_failed")
    assert slurm_id(failed) != before


@pytest.mark.slow
def test_a_killed_process_of_several_takes_the_job_back_into_the_queue(slurm, place):
    """srun ends the other one and returns 137, which no RequeueExit covers."""
    submit(place, "joined", "--tasks=2")
    (job,) = folders(place)
    wait_for(lambda: is_training(job))
    os.kill(lease.owner(job)["pid"], signal.SIGKILL)
    wait_for(lambda: restarts(slurm_id(job)) == 1, seconds=60)
    wait_for(lambda: "1 finished" in call(status, place, "joined"))
    log = (job / "log.txt").read_text()
    assert "the processes ended with exit status 137; requeued" in log
    wait_for(lambda: squeue(slurm_id(job), "%T") == "COMPLETED")


@pytest.mark.slow
def test_a_job_saves_before_its_time_limit_and_goes_on(slurm, place):
    """Slurm looks every half minute: the signal comes 30 to 60 s before the end.

    With a limit of two minutes the job has a minute at least; with one minute, the shortest that
    there is, it could be told before its first epoch was over, with nothing to save.
    """
    submit(place, "endless", "--time=2", "--signal_seconds=30")
    (job,) = folders(place)
    wait_for(lambda: restarts(slurm_id(job)) == 1, seconds=240)
    steps = max(int(path.name) for path in (job / "checkpoints").glob("[0-9]*"))
    saved = steps // int((job / "checkpoints" / "steps_per_epoch").read_text())
    assert saved > 0
    assert "stopped by SIGUSR1" in (job / "log.txt").read_text()
    wait_for(lambda: is_training(job) and run_status.read(job).epoch > saved)
    call(status, place, "endless", "--cancel")
    wait_for(lambda: squeue(slurm_id(job), "%T") == "CANCELLED")
