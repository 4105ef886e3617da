"""A job over two nodes of a real Slurm, one of which loses its power."""

import subprocess

import pytest

from cnnpool.files import results
from cnnpool.launch import collect, status
from cnnpool.runs import run_status
from tests.launch.test_slurm import (
    SCRIPT,
    call,
    cluster,
    folders,
    is_training,
    place,  # noqa: F401  # a fixture
    restarts,
    slurm_id,
    squeue,
    submit,
    wait_for,
)


@pytest.mark.slow
def test_a_job_whose_node_is_lost_goes_on_when_there_are_two_again(place):  # noqa: F811
    with cluster(1, nodes=2):
        submit(place, "joined", "--tasks=2")
        (job,) = folders(place)
        wait_for(lambda: is_training(job))
        assert squeue(slurm_id(job), "%D") == "2"
        subprocess.run([SCRIPT, "kill_node", "2"], check=True, timeout=60)
        wait_for(lambda: restarts(slurm_id(job)) == 1, seconds=120)
        (printed,) = [path.read_text() for path in (place / "slurm").glob("*.out")]
        assert "Node failure on node2" in printed
        saved = run_status.read(job).epoch
        subprocess.run([SCRIPT, "start_node", "2"], check=True, timeout=60)
        wait_for(lambda: "1 finished" in call(status, place, "joined"), seconds=240)
        assert saved > 0
        out = place.parent / "joined.nc"
        assert "the one job is finished" in call(collect, place, "joined", f"--out={out}")
        assert results.read(out).sizes["seed"] == 2
