"""Jobs are given once, whoever else gives them, and whatever becomes of launcher and answer."""

import contextlib
import io
import json
import platform
import subprocess
import threading

import pytest

from cnnpool.configs import scale2d
from cnnpool.launch import engine_choice, job_states, status, submitting, sweep, sweep_file
from cnnpool.launch.engines import slurm
from cnnpool.launch.engines.engine import EngineError
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.runs import lease


class KilledError(BaseException):
    """The launcher is no more."""


TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"


class Cluster:
    """In place of Slurm's programs: arrays by id, with the comments that they were given."""

    def __init__(self):
        self.arrays: dict[int, str] = {}
        self.cancelled: list[str] = []
        self.config = ""
        self.commands: list[list[str]] = []
        self.slow = threading.Event()
        self.after_sbatch = lambda: ""  # returns an error that hides the answer, or raises

    def once(self, command):
        """Instead of `slurm._once`."""
        name, *words = command
        out = error = ""
        if name == "sbatch":
            self.slow.wait(0.5)
            self.commands.append(words)
            (comment,) = [word for word in words if word.startswith("--comment=")]
            number = 10 + len(self.arrays)
            self.arrays[number] = comment.partition("=")[2]
            out, error = f"{number}\n", self.after_sbatch()
        elif name == "squeue":
            rows = [f"{n}_{i}|PENDING|Priority|{c}" for n, c in self.arrays.items() for i in (0, 1)]
            out = "\n".join(rows)
        elif name == "scancel":
            self.cancelled += words
        elif name == "scontrol":
            out = self.config
        return subprocess.CompletedProcess(command, 1 if error else 0, out, error)


@pytest.fixture
def cluster(monkeypatch):
    found = Cluster()
    monkeypatch.setattr(slurm, "_once", found.once)
    monkeypatch.setattr(slurm, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(submitting, "POLL_SECONDS", 0.01)
    return found


@pytest.fixture
def words(tmp_path):
    """Of a sweep with two jobs."""
    text = """
from cnnpool.configs import scale2d
from cnnpool.launch.jobs import Job, with_fields
def jobs(preset): return [Job(with_fields(scale2d.get_config(), seeds=(i,))) for i in range(2)]
"""
    (tmp_path / "sweep.py").write_text(text)
    return [f"--sweep={tmp_path / 'sweep.py'}", f"--root={tmp_path / 'root'}"]


def printed(command, *words):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        command.main(words)
    return out.getvalue()


def records(words, tmp_path):
    jobs = sweep_file.load(tmp_path / "sweep.py", "cpu", seeds_per_job=None, data_dir=None)
    return [job_states.read_submission(tmp_path / "root" / job.name) for job in jobs]


SBATCH = """#!/bin/bash
for word in "$@"; do case $word in --comment=*) token=${word#--comment=};; esac; done
n=$((10 + $(wc -l < CALLS))); echo $n >> CALLS
WHAT_HAPPENS
"""
SQUEUE = """#!/bin/bash
[ -f QUEUE ] && cat QUEUE
exit 0
"""
TAKEN = 'for i in 0 1; do echo "${n}_$i|PENDING|Priority|$token" >> QUEUE; done'


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs of Slurm in PATH; what sbatch does is told. Returns their folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(slurm, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(slurm, "ANSWER_SECONDS", 1.0)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(what_happens):
        scancel = f"#!/bin/bash\necho $@ >> {folder / 'cancelled'}\n"
        sbatch = SBATCH.replace("WHAT_HAPPENS", what_happens)
        for name, text in (("sbatch", sbatch), ("squeue", SQUEUE), ("scancel", scancel)):
            text = text.replace("QUEUE", str(folder / "queue"))
            (folder / name).write_text(text.replace("CALLS", str(folder / "calls")))
            (folder / name).chmod(0o755)
        (folder / "calls").touch()
        return folder

    return make


def test_an_array_is_looked_for_before_it_is_given_again(programs, words, tmp_path):
    """The controller takes it, and does not say so in time."""
    folder = programs(f"{TAKEN}; exec sleep 30")
    sweep.main([*words, "--engine=slurm"])
    assert (folder / "calls").read_text() == "10\n"
    assert [one["id"] for one in records(words, tmp_path)] == ["10_0", "10_1"]


def test_a_second_array_of_a_slow_controller_is_cancelled(programs, words, tmp_path):
    """What was given first is in the queue only when the second is."""
    late = "for a in 10 11; do for i in 0 1; do echo ${a}_$i'|PENDING|Priority|'$token; done; done"
    slow = f"[ $n = 10 ] && exec sleep 30; {late} > QUEUE; echo $n"
    folder = programs(slow)
    sweep.main([*words, "--engine=slurm"])
    assert (folder / "calls").read_text() == "10\n11\n"
    assert [one["id"] for one in records(words, tmp_path)] == ["11_0", "11_1"]
    assert (folder / "cancelled").read_text() == "10\n"


def test_a_second_array_that_comes_later_still_is_known_by_its_token(programs, words, tmp_path):
    folder = programs(f"[ $n = 10 ] && exec sleep 30; {TAKEN}; echo $n")
    sweep.main([*words, "--engine=slurm"])
    token = records(words, tmp_path)[0]["token"]
    (folder / "queue").write_text("".join(f"10_{i}|RUNNING|None|{token}\n" for i in (0, 1)))
    assert "2 running; 0 to start" in printed(sweep, *words, "--engine=slurm")
    assert "2 jobs told to stop" in printed(status, *words, "--cancel")
    assert (folder / "cancelled").read_text() == "11_0 10_0 11_1 10_1\n"


def test_a_sweep_that_there_is_no_slurm_for_leaves_its_root_as_it_was(words, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(EngineError, match=r"no sbatch on this machine.*use --engine=local"):
        sweep.main([*words, "--engine=slurm"])
    assert records(words, tmp_path) == [{}, {}]
    assert "2 to start" in printed(sweep, *words, "--dry_run")
    assert "2 waiting" in printed(status, *words)


def test_what_was_given_elsewhere_is_left_alone(programs, words, tmp_path, monkeypatch):
    """A root on a shared disk, looked at from a machine without Slurm."""
    programs(f"{TAKEN}; echo $n")
    sweep.main([*words, "--engine=slurm"])
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    said = printed(sweep, *words)
    assert "2 waiting; 0 to start\n2 of them" in said
    assert "submitted to slurm, whose queue is not available on this machine" in printed(
        status, *words
    )
    for folder in (tmp_path / "root").glob("*/submission.json"):
        folder.unlink()  # as the message says
    assert "2 to start" in printed(sweep, *words, "--dry_run")


def test_a_refused_array_leaves_what_was_noted_before(programs, words, tmp_path):
    programs(f"{TAKEN}; echo $n")
    sweep.main([*words, "--engine=slurm", "--job_name=first"])
    before = records(words, tmp_path)
    folder = programs("echo invalid partition >&2; exit 1")
    (folder / "queue").unlink()
    with pytest.raises(EngineError, match="invalid partition"):
        sweep.main([*words, "--engine=slurm"])
    assert records(words, tmp_path) == before


def test_two_launchers_at_once_submit_one_array(cluster, words):
    threads = [
        threading.Thread(target=sweep.main, args=[[*words, "--engine=slurm"]]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cluster.arrays) == 1


def test_an_answer_that_is_lost_is_not_a_second_array(cluster, words, tmp_path):
    cluster.after_sbatch = lambda: TIMED_OUT
    sweep.main([*words, "--engine=slurm"])
    assert len(cluster.arrays) == 1
    assert [one["id"] for one in records(words, tmp_path)] == ["10_0", "10_1"]


def test_an_array_whose_launcher_is_killed_is_known(cluster, words, tmp_path):
    def killed():
        raise KilledError

    cluster.after_sbatch = killed
    with pytest.raises(KilledError):
        sweep.main([*words, "--engine=slurm"])
    assert all("id" not in one for one in records(words, tmp_path))
    assert "2 waiting; 0 to start" in printed(sweep, *words, "--engine=slurm")
    assert "2 jobs told to stop" in printed(status, *words, "--cancel")
    assert cluster.cancelled == ["10_0", "10_1"]


def test_an_array_that_slurm_never_got_is_given_again(cluster, words):
    cluster.after_sbatch = lambda: "invalid partition specified: x"
    with pytest.raises(EngineError, match="invalid partition"):
        sweep.main([*words, "--engine=slurm"])
    cluster.arrays.clear()
    assert "2 to start" in printed(sweep, *words, "--engine=slurm", "--dry_run")


def test_more_jobs_than_an_array_takes_are_several_arrays(cluster, words, tmp_path):
    cluster.config = "MaxArraySize            = 1\nMaxJobCount = 10000\n"
    with pytest.raises(
        EngineError, match=r"2 jobs need 2 arrays .* expected --parallel of at least 2, or --give=1"
    ):
        sweep.main([*words, "--engine=slurm", "--parallel=1"])
    said = printed(sweep, *words, "--engine=slurm", "--parallel=4")
    assert said.endswith("submitted array 10 of 1 jobs\nsubmitted array 11 of 1 jobs\n")
    arrays = [[word for word in command if "--array" in word] for command in cluster.commands]
    assert arrays == [["--array=0-0%2"], ["--array=0-0%2"]]
    assert [one["id"] for one in records(words, tmp_path)] == ["10_0", "11_0"]
    assert [one["options"]["parallel"] for one in records(words, tmp_path)] == [4, 4]
    assert "2 waiting; 0 to start" in printed(sweep, *words, "--engine=slurm")


def test_what_a_cluster_does_not_take_is_given_later(cluster, words, tmp_path):
    answers = iter(["", "sbatch: error: QOSMaxSubmitJobPerUserLimit"])
    cluster.after_sbatch = lambda: next(answers)
    cluster.config = "MaxArraySize = 1"
    message = r"limits the number of jobs .*--give=N, .*; 1 of 2 jobs were submitted$"
    with pytest.raises(EngineError, match=message):
        sweep.main([*words, "--engine=slurm"])
    cluster.arrays.pop(11)
    cluster.after_sbatch = lambda: ""
    assert "; 1 to start" in printed(sweep, *words, "--engine=slurm", "--dry_run")
    assert "; 1 to start" in printed(sweep, *words, "--engine=slurm", "--give=1")
    assert "2 waiting; 0 to start" in printed(sweep, *words, "--engine=slurm")


def test_the_next_launcher_comes_in_once_the_first_has_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(submitting, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(submitting, "WAIT_SECONDS", 0.1)
    with submitting.submitting(tmp_path) as noted:
        with (
            pytest.raises(EngineError, match=r"process \d+ on .* has been submitting jobs of"),
            submitting.submitting(tmp_path),
        ):
            pass
        noted()
        with submitting.submitting(tmp_path):
            assert lease.is_held(tmp_path / "launchers")


def test_jobs_of_another_machines_launcher_are_named_with_it(words, tmp_path, monkeypatch):
    job = Job(with_fields(scale2d.get_config(), seeds=(0,)))
    root = tmp_path / "root"
    launcher = root / "launchers" / "elsewhere-1-abc"
    launcher.mkdir(parents=True)
    owner = {"host": "elsewhere", "pid": 1, "owner": "x", "beat": 0}
    (launcher / "lease.json").write_text(json.dumps(owner))
    record = {"engine": "local", "launcher": "launchers/elsewhere-1-abc", "root": str(root)}
    job_states.write_submission(root / job.name, record)
    with pytest.raises(EngineError, match=rf"not stopped.*\n  {job.name}: waiting .* on elsewhere"):
        status.main([*words, "--cancel"])
    assert platform.node() != "elsewhere"


def test_failed_jobs_that_another_launcher_has_given_again_are_left(cluster, words, monkeypatch):
    """Between the table and the turn of this launcher."""
    sweep.main([*words, "--engine=slurm"])
    cluster.arrays.clear()
    given, states = [], engine_choice.states
    monkeypatch.setattr(slurm.Slurm, "start", lambda self, found, *_: given.append(len(found)))

    def looked(jobs, root):
        found = states(jobs, root)
        fail = len(found) == 2 and not given and not looked.again
        looked.again = True
        if not fail:
            return found
        return [job_states.JobState(one.job, one.folder, job_states.FAILED) for one in found]

    looked.again = False
    monkeypatch.setattr(engine_choice, "states", looked)
    assert "2 failed jobs to start again" in printed(status, *words, "--retry_failed")
    assert given == []
