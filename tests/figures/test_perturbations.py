"""x, tau(x) and x + eta of one's own images and of a config's, with the norm of the change."""

import csv

import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from cnnpool.figures import __main__ as figures
from cnnpool.figures import perturbations
from cnnpool.library import perturbed
from cnnpool.measuring.settings import Settings


@pytest.fixture
def pictures(tmp_path):
    """Two pictures in a folder, 24 x 20 and 20 x 28 pixels: smooth, and different."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, (rows, columns) in enumerate([(24, 20), (20, 28)]):
        y, x = np.mgrid[:rows, :columns]
        waves = [np.sin((x + number * y) / (3 + channel)) for channel in range(3)]
        pixels = (np.stack(waves, -1) * 100 + 128).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_every_delta_and_cutoff_of_one_s_own_images(pictures, tmp_path, capsys):
    out = tmp_path / "a.png"
    flags = ["--deltas=0.6,1.5", "--cutoffs=3,5", "--noise=white,luma", f"--out={out}"]
    figures.main(["perturbations", str(pictures), *flags])
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"2 images: pictures\n\nin {out}\n"
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 2
    change = np.array([float(row["change"]) for row in rows])
    noise = np.array([float(row["noise_norm"]) for row in rows])
    np.testing.assert_allclose(noise, change, rtol=1e-5)  # of float32 sums over 1200 pixels
    small, large = ([float(r["change"]) for r in rows if r["delta"] == d] for d in ("0.6", "1.5"))
    assert (np.array(large) > np.array(small)).all()


def test_what_is_shown_is_what_was_measured(pictures):
    shown = perturbed.of_files([pictures], Settings(images=2, deltas=(1.5,)))
    assert shown.clean.shape == (2, 20, 20, 3), "central squares of the smallest side"
    (cell,) = shown.cells
    moved = np.linalg.norm((cell.deformed - shown.clean).reshape(2, -1), axis=1)
    # Bilinear values of pixels from 0 to 1 are not clipped.
    np.testing.assert_allclose(moved, cell.change, rtol=1e-4)
    np.testing.assert_allclose(shown.norms, np.linalg.norm(shown.clean.reshape(2, -1), axis=1))
    figure = perturbations.draw(shown.clean, shown.norms, shown.cells)
    labels = [axes.get_xlabel() for axes in figure.axes]
    said = f"{cell.change[0]:.3g} ({cell.change[0] / shown.norms[0]:.0%})"
    assert labels[:3] == ["", said, said]


def test_displacements_out_of_range_are_marked(pictures):
    shown = perturbed.of_files([pictures], Settings(images=2, deltas=(0.1,)))
    figure = perturbations.draw(shown.clean, shown.norms, shown.cells)
    assert [axes.get_xlabel().endswith("not natural") for axes in figure.axes[:3]] == [0, 1, 0]


def test_normalized_images_are_shown_as_they_were():
    pixels = np.random.default_rng(0).random((2, 4, 4, 3)).astype(np.float32)
    clean = jnp.asarray((pixels - 0.4) / 0.25)
    back = perturbed._pictures(clean, lambda images: (images - 0.4) / 0.25)
    np.testing.assert_allclose(back(clean), pixels, atol=1e-6)


def test_scale_detection_has_perturbations_of_its_own(tmp_path, capsys):
    out = tmp_path / "a.png"
    figures.main(["perturbations", "--config=scale2d:cpu", "--images=1", f"--out={out}"])
    assert capsys.readouterr().out.startswith("1 images: scale2d")
    with pytest.raises(ValueError, match="--deltas is of max-entropy"):
        figures.main(["perturbations", "--config=configs/scale2d.py", "--deltas=2", f"--out={out}"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either picture files, --workdir or --config"),
        (["a.png", "--config=b.py"], "give either"),
        (["a.png", "--data_dir=b"], "--data_dir goes with"),
        (["--workdir=a", "--size=3"], "--size is of one's own images"),
        (["a.png", "--images=0"], "at least 1, got 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, capsys):
    with pytest.raises(SystemExit):
        figures.main(["perturbations", *flags])
    assert message in capsys.readouterr().err


def test_what_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(perturbed.DataError, match=r"a\.png is no picture"):
        perturbed.of_files([tmp_path / "a.png"], Settings())


def test_pixels_that_would_be_clipped_are_refused(tmp_path):
    deep, floats = tmp_path / "deep.png", tmp_path / "floats.npy"
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(deep)
    np.save(floats, np.full((2, 8, 8, 3), 3.0))
    for file, words in ((deep, "more than eight bits"), (floats, "floats from 3 to 3")):
        with pytest.raises(perturbed.DataError, match=words):
            perturbed.of_files([file], Settings(images=2))
