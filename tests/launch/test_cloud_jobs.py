"""Jobs in a cloud: what `sky jobs queue` says of them, with a program in place of `sky`."""

import json
import os

import pytest

from cnnpool.configs import scale2d
from cnnpool.launch import engine_choice, job_states
from cnnpool.launch.engines import skypilot
from cnnpool.launch.engines.engine import EngineError
from cnnpool.launch.jobs import Job

OPTIONS = skypilot.Options(accelerators="tpu-v5e-16", bucket="gs://mine", infra="gcp", spot=False)
SKY = """#!/bin/sh
echo "$*" >> {place}/calls
if [ "$2" = queue ]; then
  printf '\\033[2mStarting a local server.\\033[0m\\n'  # as SkyPilot 0.14.1 does
  cat {place}/queue
  exit $(cat {place}/code)
fi
"""


@pytest.fixture
def sky(tmp_path, monkeypatch):
    """Sets what `sky jobs queue` prints, and its exit status."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "sky").write_text(SKY.format(place=place))
    (place / "sky").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")

    def says(text, code=0):
        (place / "queue").write_text(text)
        (place / "code").write_text(str(code))
        return place / "calls"

    return says


@pytest.fixture
def job(tmp_path, sky):
    """A job that `sky jobs launch` has taken."""
    one = Job(scale2d.get_config())
    skypilot.SkyPilot(OPTIONS).start([job_states.of(one, tmp_path, {})], tmp_path)
    return one


def rows(name, *statuses):
    """As `sky jobs queue --output json` has them, the newest first."""
    fields = [
        {"task_job_id": None, "job_id": number, "job_name": name, "status": status}
        for number, status in enumerate(statuses)
    ]
    return json.dumps(fields[::-1], indent=2)


def state(job, root):
    (found,) = engine_choice.states([job], root)
    return found


@pytest.mark.parametrize(
    ("statuses", "expected", "given"),
    [
        (["CANCELLED", "STARTING"], "waiting", False),
        (["RECOVERING"], "waiting", False),
        (["RUNNING"], "running", False),
        (["CANCELLED"], "waiting", True),
        (["FAILED_NO_RESOURCE"], "waiting", True),
        (["RUNNING", "FAILED_SETUP"], "failed", False),
        (["FAILED"], "failed", False),
        (["SUCCEEDED"], "waiting", False),
        ([], "waiting", True),
    ],
)
def test_states_in_the_cloud(job, sky, tmp_path, statuses, expected, given):
    sky(rows(skypilot.cloud_name(job.name), *statuses))
    found = state(job, tmp_path)
    assert (found.state, found.is_to_be_given) == (expected, given)
    if expected == "failed":
        assert "sky jobs logs --name scale2d-lenet" in found.detail
    if statuses == ["SUCCEEDED"]:
        assert f"copy gs://mine to {tmp_path}" in found.detail


def test_without_a_controller_no_job_is_there(job, sky, tmp_path):
    sky("sky.exceptions.ClusterNotUpError: No in-progress managed jobs.", code=1)
    assert state(job, tmp_path).is_to_be_given


def test_an_older_skypilot_leaves_them_waiting_until_they_are_cancelled(job, sky, tmp_path):
    calls = sky("Error: No such option: --output", code=2)
    found = state(job, tmp_path)
    assert (found.state, found.is_to_be_given) == ("waiting", False)
    records = engine_choice.submissions([job], tmp_path)["skypilot"]
    assert engine_choice.make("skypilot", {}).cancel(records) == [job.name]
    assert f"jobs cancel --yes --name {skypilot.cloud_name(job.name)}" in calls.read_text()
    assert state(job, tmp_path).is_to_be_given


def test_a_job_that_was_refused_is_given_again(sky, tmp_path):
    sky("Error: No such option: --output", code=2)
    one = job_states.of(Job(scale2d.get_config()), tmp_path, {})
    launcher = skypilot.SkyPilot(OPTIONS)
    refusing = tmp_path / "bin" / "sky"
    program = refusing.read_text()
    refusing.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(EngineError, match=r"sky jobs launch .* failed"):
        launcher.start([one], tmp_path)
    refusing.write_text(program)
    assert state(one.job, tmp_path).is_to_be_given


def test_its_options_are_noted(job, tmp_path):
    record = job_states.read_submission(tmp_path / job.name)
    assert engine_choice.make(record["engine"], record["options"]).options == OPTIONS
