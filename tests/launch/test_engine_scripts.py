"""What engines would run, without an engine: quoted scripts, arguments, YAML."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest

from cnnpool.configs import cifar10, scale2d
from cnnpool.errors import EXIT_PREEMPTED, PreemptedError
from cnnpool.launch import job_run, job_states, run_job
from cnnpool.launch.engines import skypilot, slurm
from cnnpool.launch.engines.engine import EngineError
from cnnpool.launch.jobs import Job, with_fields
from cnnpool.runs import run_status

NASTY = 'it\'s "a" $(touch pwned) `touch pwned`; touch pwned &\nnew line'


@pytest.fixture
def state(tmp_path):
    return job_states.of(Job(scale2d.get_config()), tmp_path, {})


def test_a_shell_reads_the_paths_of_a_script_as_they_are(tmp_path, monkeypatch):
    """bash runs the script with a program that prints its arguments in place of Python."""
    here = tmp_path / NASTY
    here.mkdir()
    monkeypatch.chdir(here)
    printer = here / "python"
    printer.write_text('#!/bin/bash\npwd\nprintf "%s\\0" "$@" "$SET_UP"\n')
    printer.chmod(0o755)
    (here / "setup file.sh").write_text("export SET_UP=yes\n")
    monkeypatch.setattr(sys, "executable", str(printer))
    text = slurm.script(here / "list.json", slurm.Options(setup=str(here / "setup file.sh")))
    environment = {"SLURM_ARRAY_TASK_ID": "3", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, env=environment, check=True
    )
    where, _, words = done.stdout.partition("\n-m")
    assert where == str(here)
    assert f"--list\0{here / 'list.json'}\0--index\0" in words
    assert words.endswith("3\0yes\0")
    assert not (here / "pwned").exists()


def test_options_are_arguments_and_logs_have_the_jobs_name(tmp_path):
    options = slurm.Options(partition="a b", parallel=2, job_name=NASTY, gpus=1, time="1:00")
    words = slurm.sbatch_arguments(5, tmp_path / "100%A" / "slurm" / "token.json", options)
    assert "--comment=token" in words
    assert "--array=0-4%2" in words
    assert f"--job-name={NASTY}" in words
    assert "--partition=a b" in words
    assert "--gpus-per-task=1" in words
    assert f"--output={tmp_path}/100%%A/slurm/%A_%a.out" in words
    assert "--signal=B:USR1@60" in words
    assert not any("None" in word or word.startswith("--mem") for word in words)


def test_several_processes_start_under_srun_and_end_together(tmp_path):
    options = slurm.Options(tasks=2)
    text = slurm.script(tmp_path / "list.json", options)
    assert f"\nsrun --kill-on-bad-exit=1 {sys.executable}" in text
    with_cores = slurm.script(tmp_path / "list.json", slurm.Options(tasks=2, cpus=8))
    assert "\nsrun --kill-on-bad-exit=1 --cpus-per-task=8 " in with_cores
    assert "cpus-per-task" not in slurm.script(tmp_path / "list.json", slurm.Options(cpus=8))
    words = slurm.sbatch_arguments(1, tmp_path / "list.json", options)
    assert "--signal=USR1@60" in words, "not to the shell"


@pytest.mark.parametrize(
    ("code", "calls"),
    [
        (0, ["srun"]),
        (1, ["srun"]),
        (75, ["srun", "--after=75"]),
        (137, ["srun", "--after=137"]),
    ],
)
def test_killed_and_lost_processes_are_looked_into(tmp_path, monkeypatch, code, calls):
    """srun is a program that ends as told, Python one that notes its last argument."""
    for name, text in (
        ("srun", f"echo srun; exit {code}"),
        ("python", 'echo "${@: -1}"; exit 75'),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    text = slurm.script(tmp_path / "list.json", slurm.Options(tasks=2))
    environment = {"SLURM_ARRAY_TASK_ID": "3", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    command = ["bash", "-c", text]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == calls
    assert done.returncode == (75 if code == 137 else code)


@pytest.mark.parametrize(
    ("state", "restarts", "ended_with", "status"),
    [
        (run_status.RUNNING, 0, 137, 75),
        (run_status.PREEMPTED, 19, 137, 75),
        (run_status.RUNNING, run_job.RESTARTS, 137, 137),
        (run_status.PREEMPTED, run_job.RESTARTS, 75, 75),
        (run_status.FAILED, 0, 137, 1),
        (None, 0, 137, 75),
    ],
)
def test_jobs_with_lost_processes_are_put_back_but_failed_ones_are_not(
    tmp_path, monkeypatch, state, restarts, ended_with, status
):
    put_back = []
    monkeypatch.setattr(slurm, "requeue_this_job", lambda: put_back.append(1))
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    spec = Job(scale2d.get_config()).write_spec(tmp_path)
    if state is not None:
        run_status.write(tmp_path, run_status.Status(state))
    with pytest.raises(SystemExit) as ended:
        run_job.main([str(spec), f"--after={ended_with}"])
    assert ended.value.code == status
    assert bool(put_back) == (status == 75)


def test_a_stopped_job_says_so_before_slurm_may_end_it(tmp_path, monkeypatch, capsys):
    """`scontrol requeue` from inside a job kills it, sooner or later."""
    said = []

    def stopped(spec, *, accelerator):
        raise PreemptedError("stopped by SIGUSR1")

    def leave(status):
        raise SystemExit(status)

    monkeypatch.setattr(job_run, "run", stopped)
    monkeypatch.setattr(slurm, "requeue_this_job", lambda: said.append(capsys.readouterr().err))
    monkeypatch.setattr(os, "_exit", leave)
    spec = Job(scale2d.get_config()).write_spec(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_job.main([str(spec), "--requeue"])
    assert ended.value.code == 75
    assert said == ["stopped by SIGUSR1\n"]


@pytest.mark.parametrize(
    ("text", "state", "fatal"),
    [
        ("PENDING", "waiting", False),
        ("REQUEUE_HOLD", "waiting", False),
        ("COMPLETING", "running", False),
        ("CANCELLED by 0", "stopped", False),
        ("CANCELLED+", "stopped", False),
        ("OUT_OF_MEMORY", "stopped", True),
        ("NODE_FAIL", "stopped", False),
    ],
)
def test_words_of_slurm(text, state, fatal):
    found = slurm._queued(text)
    assert (found.state, found.fatal) == (state, fatal)


def test_a_controller_that_restarts_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "PAUSE_SECONDS", 0.0)
    answers = iter(["Unable to contact slurm controller (connect failure)"] * 3)

    def once(command):
        error = next(answers, "")
        return subprocess.CompletedProcess(command, 1 if error else 0, "fine", error)

    monkeypatch.setattr(slurm, "_once", once)
    assert slurm._slurm(["squeue"]) == "fine"
    answers = iter(["invalid partition specified: x"])
    with pytest.raises(EngineError, match="invalid partition specified: x"):
        slurm._slurm(["sbatch"])


def test_commands_of_slurm_are_called_as_outside_of_any_job(monkeypatch):
    inside = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_MEM_PER_CPU": "4000",
        "SLURM_CPU_BIND": "mask_cpu:0x1",
        "SQUEUE_PARTITION": "debug",
        "SBATCH_WAIT": "1",
    }
    kept = {"SLURM_CONF": "/etc/here.conf", "SLURM_CLUSTERS": "c", "SBATCH_ACCOUNT": "mine"}
    for name, value in (inside | kept).items():
        monkeypatch.setenv(name, value)
    seen = dict(line.partition("=")[::2] for line in slurm._once(["env"]).stdout.splitlines())
    assert not inside.keys() & seen.keys()
    assert kept.items() <= seen.items()


@pytest.mark.parametrize(
    ("printed", "array"),
    [("17\n", "17"), ("17;cluster\n", "17"), ("sbatch: welcome\n 3 jobs left\n17\n", "17")],
)
def test_the_number_of_an_array_is_found_among_what_a_site_says(printed, array):
    assert slurm._array_in(printed) == array
    with pytest.raises(EngineError, match="expected a job id from sbatch, got 'hello'"):
        slurm._array_in("hello\n")


def test_without_slurm_the_error_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EngineError, match=r"no sbatch on this machine.*--engine=local"):
        slurm._slurm(["sbatch"])


@pytest.mark.parametrize(
    ("queue", "calls"),
    [("RUNNING", ["squeue", "scontrol"]), ("COMPLETING", ["squeue"]), ("", ["squeue"])],
)
def test_only_a_job_that_would_be_over_is_requeued(monkeypatch, queue, calls):
    seen = []

    def once(command):
        seen.append(command[0])
        return subprocess.CompletedProcess(command, 0, f"{queue}\n", "")

    monkeypatch.setattr(slurm, "_once", once)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    slurm.requeue_this_job()
    assert seen == []
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_PROCID", "0")
    slurm.requeue_this_job()
    assert seen == calls
    monkeypatch.setenv("SLURM_PROCID", "1")
    slurm.requeue_this_job()
    assert seen == calls, "one process of several asks"


OPTIONS = skypilot.Options(accelerators="tpu-v5e-16", bucket="gs://mine", infra="gcp")


def test_a_managed_job_recovers_and_keeps_its_files_in_the_bucket(state):
    fields = skypilot.task(state, state.folder / "spec-1.json", OPTIONS)
    resources = fields["resources"]
    assert resources["job_recovery"]["recover_on_exit_codes"] == [EXIT_PREEMPTED]
    assert resources["accelerators"] == "tpu-v5e-16:1"
    assert resources["accelerator_args"] == {"runtime_version": "v2-alpha-tpuv5-lite"}
    assert fields["file_mounts"][skypilot.MOUNTED] == {"source": "gs://mine", "mode": "MOUNT"}
    assert f"launch.run_job {skypilot.MOUNTED}/{state.job.name}/spec-1.json" in fields["run"]
    assert json.loads(skypilot.to_yaml(fields)) == fields
    subprocess.run(["bash", "-n", "-c", fields["run"]], check=True)
    text = skypilot.SkyPilot(OPTIONS).describe([state], state.folder.parent)
    assert text.startswith("# schema-checked, never run on a TPU")
    assert not state.folder.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tpu-v5e-7", "is not a TPU slice; expected one of tpu-v5e-1, tpu-v5e-4"),
        ("tpu-v9-8", "'tpu-v9'; expected one of"),
        ("H1000:1", "'H1000'; expected one of .*did you mean"),
        ("H100:many", "expected GPU:COUNT"),
    ],
)
def test_unknown_accelerators_are_refused(name, message):
    with pytest.raises(EngineError, match=message):
        skypilot.accelerators(name)


def test_data_of_this_machine_is_refused(tmp_path):
    config = with_fields(cifar10.get_config(), data__data_dir="/my/data")
    state = job_states.of(Job(config), tmp_path, {})
    with pytest.raises(EngineError, match=r"data from /my/data .*omit --data_dir"):
        skypilot.task(state, Path("spec.json"), OPTIONS)


def test_checkpoints_need_a_bucket(state):
    options = skypilot.Options(accelerators="H100")
    with pytest.raises(EngineError, match=r"--bucket must be .*got None"):
        skypilot.task(state, Path("spec.json"), options)


def test_sky_is_not_imported_on_other_paths():
    code = "import sys, launch.sweep, launch.status, launch.run_job; print('sky' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("options", [OPTIONS, skypilot.Options("H100:4", "s3://b", spot=False)])
def test_skypilots_parser_takes_the_yaml(state, options, tmp_path, monkeypatch):
    pytest.importorskip("sky", reason="SkyPilot is not installed; its parser is not asked")
    monkeypatch.setenv("HOME", str(tmp_path))
    fields = skypilot.task(state, state.job.write_spec(state.folder), options)
    assert "parser" in skypilot.check_with_sky([fields])
