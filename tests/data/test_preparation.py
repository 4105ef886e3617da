"""Pictures: torchvision's resize and crop, odd files, folders, and ImageNet through TFDS."""

import io
import os

import jax
import numpy as np
from PIL import Image
import pytest

from cnnpool.data import image_arrays, image_folder, imagenet, preparation, tfds_files
from cnnpool.data.images import DataError, MeasurementData
from cnnpool.data.preparation import Sizes, UnreadableError
from tests.paths import GOLDENS

GOLDEN = GOLDENS / "pth" / "prepared.npz"
SIZES = Sizes(256, 224)
SMALL = Sizes(16, 12)


def picture(height, width):
    """As in tests/oracles/make_pth_goldens.py, which needs torch."""
    rng = np.random.Generator(np.random.PCG64(height * width))
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / 17 + c) + np.cos(columns / 23 - c) for c in range(3)]
    noise = rng.normal(0, 20, (height, width, 3))
    return np.clip(128 + 50 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)


def test_it_is_torchvision_s_preparation():
    with np.load(GOLDEN) as golden:
        for name in golden.files:
            height, width = map(int, name.split("x"))
            found = preparation.prepare(Image.fromarray(picture(height, width)), SIZES)
            assert found.shape == (224, 224, 3)
            difference = found[::7, ::7].astype(int) - golden[name].astype(int)
            assert abs(difference).max() <= 1, name


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode):
    image = Image.fromarray(picture(40, 30)).convert(mode)
    found = preparation.prepare(image, SMALL)
    assert found.shape == (12, 12, 3)
    resized = image.convert("RGB").resize((16, 21), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found, np.asarray(resized)[4:16, 2:14])


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_kinds_of_files(kind):
    image = Image.fromarray(picture(40, 30))
    found = preparation.read(encoded(image, kind, quality=95), SMALL)
    plain = preparation.prepare(image, SMALL)
    # JPEG and WebP blur the noise of single pixels; after resizing 20 grey levels are left.
    assert abs(found.astype(int) - plain.astype(int)).mean() < (0.1 if kind == "PNG" else 20)


def test_one_pixel_and_rotated_pictures():
    one = preparation.prepare(Image.new("RGB", (1, 1), (10, 20, 30)), SMALL)
    assert (one == (10, 20, 30)).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees; torchvision does not
    image = Image.fromarray(picture(40, 30))
    turned = preparation.read(encoded(image, "PNG", exif=exif), SMALL)
    np.testing.assert_array_equal(turned, preparation.prepare(image, SMALL))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "^cannot identify image file: damaged, or not a picture$"),
        (b"a text called .jpg", "cannot identify image file"),
        (encoded(Image.fromarray(picture(90, 90)), "JPEG")[:-300], "truncated"),
        (encoded(Image.fromarray(picture(90, 90)))[:2000], "truncated|broken"),
        (encoded(Image.new("I;16", (9, 9))), "more than eight bits"),
        (encoded(Image.new("L", (1, 60000))), "one side is too long"),
    ],
)
def test_what_cannot_be_used_says_why(content, message):
    with pytest.raises(UnreadableError, match=message):
        preparation.read(content, SIZES)


def test_a_decompression_bomb_is_refused(monkeypatch):
    content = encoded(Image.new("L", (60, 60)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UnreadableError, match="DecompressionBomb"):
        preparation.read(content, SMALL)


def folder_config(root, **changes):
    config = image_folder.default_config()
    config.update({"data_dir": str(root), "resize": 16, "crop": 12} | changes)
    return config


@pytest.fixture
def root(tmp_path):
    """Eight pictures in two classes, each of one grey level, and files that are none."""
    for number in range(8):
        path = tmp_path / "classes" / f"c{number % 2}" / f"{number}.{('png', 'jpg')[number % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 18), 20 * number).save(path)
    (tmp_path / "classes" / "c0" / "notes.txt").write_text("no picture")
    return tmp_path / "classes"


def levels(data):
    return [round(float(image.mean()) / 20) for image in np.asarray(data.test.images)]


def test_classes_are_the_folders_in_order(root):
    data = image_folder.build(folder_config(root), count=8, seed=0)
    assert isinstance(data, MeasurementData)
    assert data.classes == 2
    assert sorted(levels(data)) == list(range(8))
    assert [level % 2 for level in levels(data)] == data.test.labels.tolist()
    ready = data.normalize(jax.random.key(0), data.test.images)
    expected = (20 * levels(data)[0] / 255 - 0.485) / 0.229
    assert abs(float(ready[0, 0, 0, 0]) - expected) < 1e-2  # JPEG rounds to a grey level


def folders(root, names, empty=()):
    """A picture in each folder called `names`, and folders without one."""
    for name in (*names, *empty):
        (root / name).mkdir(parents=True)
    for name in names:
        Image.new("L", (20, 18)).save(root / name / "a.png")
    return root


@pytest.mark.parametrize(
    ("names", "empty", "classes", "count"),
    [
        ([str(n) for n in range(12)], [], range(12), 12),  # as ImageNet-V2
        ([f"{n:03d}" for n in range(12)], [], range(12), 12),
        ([str(n) for n in range(1, 13)], [], range(12), 12),
        (["0", "2", "11"], [], [0, 2, 11], 12),
        (["3", "5", "11"], [], [3, 5, 11], 12),
        (["0", "10", "2"], ["11", "thumbnails"], [0, 10, 2], 12),
        (["1", "01"], [], [1, 0], 2),  # no numbers: one of them twice
        (["c0", "c1", "c10", "c2"], [], range(4), 4),  # text, as torchvision's ImageFolder
        (["cat", "dog"], ["ant"], [1, 2], 3),
        (["n1", "n2"], [".git", "__MACOSX", "@eaDir"], [0, 1], 2),
    ],
)
def test_folders_called_by_numbers_are_these_classes(names, empty, classes, count, tmp_path):
    found = image_folder.find(folders(tmp_path / "root", names, empty))
    by_name = dict(zip([path.parent.name for path in found.files], found.labels, strict=True))
    assert by_name == dict(zip(names, classes, strict=True))
    assert found.classes == count


def test_what_is_left_out_and_what_is_an_empty_class_is_named(tmp_path, capsys):
    """torchvision reads pictures at any depth, and refuses a class without any."""
    root = folders(tmp_path / "root", ["cat", "dog", "dog/more", "dog/.cache"], ["annotations"])
    Image.new("L", (20, 18)).save(root / "cat" / "b.bmp")
    (root / "dog" / "gone.png").symlink_to("nowhere.png")
    found = image_folder.find(root)
    assert [path.relative_to(root).as_posix() for path in found.files] == ["cat/a.png", "dog/a.png"]
    left_out = ["cat/b.bmp", "dog/gone.png", "dog/more/a.png"]
    assert [path.relative_to(root).as_posix() for path in found.strays] == left_out
    assert found.note == "1 folders without pictures count as classes: annotations"
    image_folder.build(folder_config(root), count=2, seed=0)
    said = capsys.readouterr().err
    assert "3 pictures are skipped" in said
    assert "dog/gone.png: a link to a file that does not exist" in said
    assert "dog/more/a.png" in said
    assert "in a folder inside a class folder" in said
    assert "annotations" in said


def test_which_folder_is_which_class_is_said_where_numbers_give_another_order(tmp_path):
    found = {
        name: image_folder.find(folders(tmp_path / name, names))
        for name, names in {
            "numbers": [str(n) for n in range(12)],
            "padded": [f"{n:02d}" for n in range(12)],
            "one": ["1", "2"],
            "text": ["c2", "c10"],
            "words": ["cat", "dog"],
        }.items()
    }
    assert {name: one.note for name, one in found.items()} == {
        "numbers": "class folders: 0 is class 0, 1 is class 1, ..., 11 is class 11",
        "padded": "",
        "one": "class folders: 1 is class 0, 2 is class 1",
        "text": "class folders: c10 is class 0, c2 is class 1",
        "words": "",
    }
    prints = [image_folder.fingerprint(folder_config(tmp_path / name)) for name in found]
    assert [text.endswith("classes by number") for text in prints] == [True, *[False] * 4]


def test_hidden_files_are_no_pictures(root):
    (root / "c1" / "._1.jpg").write_bytes(b"what macOS puts beside a file")
    assert len(image_folder.find(root).files) == 8


def test_fewer_are_the_first_of_more_and_another_seed_takes_others(root):
    few, many = (levels(image_folder.build(folder_config(root), count=n, seed=0)) for n in (3, 8))
    assert many[:3] == few
    assert levels(image_folder.build(folder_config(root), count=8, seed=1)) != many


def test_a_flat_folder_has_no_classes(root):
    data = image_folder.build(folder_config(root / "c0"), count=4, seed=0)
    assert data.classes is None
    assert set(data.test.labels.tolist()) == {-1}


def test_the_fingerprint_knows_the_files(root):
    before = image_folder.fingerprint(folder_config(root))
    assert image_folder.fingerprint(folder_config(root)) == before
    (root / "c1" / "7.jpg").unlink()
    assert image_folder.fingerprint(folder_config(root)) != before


def test_unreadable_pictures_are_passed_over_in_order(root):
    order = levels(image_folder.build(folder_config(root), count=8, seed=0))
    first = order[0]
    (path,) = root.glob(f"*/{first}.*")
    path.write_text("broken")
    data = image_folder.build(folder_config(root), count=7, seed=0)
    assert levels(data) == order[1:]
    assert data.unreadable == (str(path.relative_to(root)),)


def test_pictures_beside_class_folders_are_left_out_and_hidden_folders_are_none(root, capsys):
    before = image_folder.fingerprint(folder_config(root))
    (root / ".ipynb_checkpoints").mkdir()
    stray = root / os.fsdecode(b"str\xe4y.png")
    for path in (stray, root / ".ipynb_checkpoints" / "0.png"):
        Image.new("L", (20, 18)).save(path)
    data = image_folder.build(folder_config(root), count=8, seed=0)
    assert data.classes == 2
    assert sorted(levels(data)) == list(range(8))
    assert image_folder.fingerprint(folder_config(root)) == before
    said = "1 pictures are skipped:\n  str\\xe4y.png: in no class folder\n"
    assert capsys.readouterr().err == said
    with pytest.raises(
        DataError, match=r"has 8 pictures .*--num_images=8. Not counted are:\n  str"
    ):
        image_folder.build(folder_config(root), count=9, seed=0)
    stray.rename(root / "c0" / stray.name)
    assert image_folder.fingerprint(folder_config(root)) != before


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("absent", "does not exist"),
        ("empty", "has no pictures"),
        ("file.png", "file.png is a file; expected a folder"),
        ("nothing", "--data_dir must name"),
    ],
)
def test_folders_without_pictures(where, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").touch()
    place = None if where == "nothing" else tmp_path / where
    config = folder_config(place)
    config.data_dir = place and str(place)
    with pytest.raises((DataError, ValueError), match=message):
        image_folder.build(config, count=1, seed=0)
    with pytest.raises((DataError, ValueError), match=message):
        image_folder.fingerprint(config)


def test_arrays_are_measured_as_they_are(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), np.uint8)
    np.save(tmp_path / "images.npy", images)
    config = folder_config(tmp_path)
    data = image_arrays.build(config, count=3, seed=0)
    assert data.classes is None
    rows = [int(np.argmax((images == one).all((1, 2, 3)))) for one in np.asarray(data.test.images)]
    assert len(set(rows)) == 3
    np.save(tmp_path / "labels.npy", np.arange(5))
    labelled = image_arrays.build(config, count=3, seed=0)
    assert labelled.source != data.source
    assert labelled.classes == 5
    assert labelled.test.labels.tolist() == rows
    with pytest.raises(DataError, match="has 5 images; expected at least --num_images=6"):
        image_arrays.build(config, count=6, seed=0)


@pytest.mark.parametrize(
    ("there", "cure"),
    [(3, "add images, or give --num_images=3"), (1, "add images; a measurement needs two or more")],
)
def test_too_few_images_are_named_with_a_cure_that_works(there, cure, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((there, 6, 6, 3), np.uint8))
    with pytest.raises(DataError, match=f"has {there} images; expected .*: {cure}$"):
        image_arrays.build(folder_config(tmp_path), count=6, seed=0)


def test_arrays_are_read_once_and_floats_are_pixels_from_0_to_1(tmp_path, monkeypatch):
    images, reads = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 1), np.uint8), []
    read = image_arrays.arrays.read_npy
    monkeypatch.setattr(
        image_arrays.arrays, "read_npy", lambda *a, **o: [reads.append(a), read(*a, **o)][1]
    )
    ready = []
    for stored in (images, images / 255):
        np.save(tmp_path / "images.npy", stored)
        config = folder_config(tmp_path)
        image_arrays.fingerprint(config)
        data = image_arrays.build(config, count=3, seed=0)
        ready.append(data.normalize(jax.random.key(0), data.test.images))
    assert len(reads) == 2
    assert ready[0].shape == (3, 6, 6, 3)
    np.testing.assert_allclose(*ready, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.full((5, 6, 6, 3), 2.0), "floats from 2 to 2; expected pixels from 0 to 1, or uint8"),
        (np.full((5, 6, 6, 3), -0.1), "without normalization"),
        (np.full((5, 6, 6, 3), 255.0), "uint8: divide them by 255"),
        (np.zeros((5, 3, 6, 6)), r"channels last, 1 or 3 of them; channels come first"),
        (
            np.zeros((5, 6, 6, 2)),
            r"images.npy has shape \(5, 6, 6, 2\); .*1 or 3 of them$",
        ),
        (np.zeros((6, 6, 3)), r"shape \(6, 6, 3\), which is one picture.*save images\[None\]"),
    ],
)
def test_arrays_that_are_no_pixels(tmp_path, images, message):
    np.save(tmp_path / "images.npy", images)
    with pytest.raises(DataError, match=message):
        image_arrays.fingerprint(folder_config(tmp_path))


class Builder:
    """What TFDS's builder does; a prepared ImageNet is 6 GB."""

    name, data_path = imagenet.NAME, "place"

    class info:  # noqa: N801
        version, splits = "5.1.0", {}

    def __init__(self, records):
        self.records = records


class Records(list):
    """Those of a builder."""

    def __init__(self, builder, split, names):
        assert (split, names) == ("validation", ["image", "label"])
        super().__init__(builder.records)

    def read(self, rows):
        return [self[row] for row in rows]


def test_imagenet_is_prepared_as_torchvision_does(monkeypatch):
    monkeypatch.setattr(imagenet, "Records", Records)
    pictures = [Image.fromarray(picture(40 + n, 30)) for n in range(4)]
    records = [{"image": encoded(one), "label": 7 * n} for n, one in enumerate(pictures)]
    monkeypatch.setattr(tfds_files, "open_builder", lambda root, name: Builder(records))
    data = imagenet.build(folder_config("there"), count=3, seed=0)
    assert data.classes == 1000
    for image, label in zip(np.asarray(data.test.images), data.test.labels, strict=True):
        np.testing.assert_array_equal(image, preparation.prepare(pictures[int(label) // 7], SMALL))
    with pytest.raises(DataError, match="at most 4, the validation images"):
        imagenet.build(folder_config("there"), count=5, seed=0)
    records[0]["image"] = records[1]["image"] = b"damaged"
    with pytest.raises(DataError, match="damaged images in place"):
        imagenet.build(folder_config("there"), count=4, seed=0)


def test_absent_imagenet_says_how_to_prepare_it(tmp_path):
    with pytest.raises(DataError, match=r"no imagenet2012: expected (.|\n)*download_and_prepare"):
        imagenet.fingerprint(folder_config(tmp_path))


def test_real_pictures_have_their_classes(data_dir):
    root = data_dir / "imagenet_sample" / "val"
    if not root.is_dir():
        pytest.skip(f"no ImageNet sample in {data_dir}")
    data = image_folder.build(folder_config(root, resize=256, crop=224), count=8, seed=0)
    assert data.classes == 1000
    assert data.test.images.shape == (8, 224, 224, 3)
    assert len(set(data.test.labels.tolist())) == 8
