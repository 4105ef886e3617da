"""Images beside what a measurement makes of them: x, tau(x) and x + eta, to be looked at."""

from collections.abc import Callable, Sequence
import importlib.util
from pathlib import Path
from typing import Any

import jax
from jax import Array
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
from PIL import Image

from cnnpool import config_files
from cnnpool import data as data_sets
from cnnpool.data import image_arrays, image_folder, preparation
from cnnpool.data.images import DataError, MeasurementData
from cnnpool.instruments.diffeomorphisms import deform, is_natural
from cnnpool.instruments.noise import check_kind, noisy_images
from cnnpool.library.shown_images import Perturbed, Shown
from cnnpool.measuring import inputs
from cnnpool.measuring.settings import Settings
from cnnpool.runs import run_config

Normalize = Callable[[Array], Array]
_ROUNDING = 1e-3


def of_run(folder: Path, settings: Settings, *, data_dir: str | None = None) -> Shown:
    """Test images of a run, as its networks are measured on them.

    Raises:
      FileNotFoundError: if there is no run.
      ValueError: if it is of an imported network, which has no images of its own, or of a ring.
      DataError: if its data is absent or damaged.
    """
    return of_config(run_config.load(folder, data_dir=data_dir), settings)


def of_config_file(text: str, settings: Settings, *, data_dir: str | None = None) -> Shown:
    """Test images of the data of a config.

    Args:
      text: FILE.py or FILE.py:PRESET, or the name of an installed config instead of FILE.py.
      settings: of the perturbations.
      data_dir: instead of the config's `data.data_dir`.

    Raises:
      ValueError: if the file is no config.
      DataError: if the data is absent or damaged.
    """
    file, _, preset = config_files.located(text).partition(":")
    spec = importlib.util.spec_from_file_location("config_of_images", file)
    if not Path(file).is_file() or spec is None or spec.loader is None:
        raise ValueError(f"--config={text}: expected a file like configs/cifar10.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(*([preset] if preset else []))
    if data_dir is not None:
        config = run_config.with_data_dir(config, data_dir)
    return of_config(config, settings)


def of_config(config: ConfigDict, settings: Settings) -> Shown:
    """Test images of the data of a config; see `of_run`."""
    if run_config.is_on_ring(config):
        raise ValueError(
            f"the data {config.data.name} are no pictures; expected those of a classifier"
        )
    if "resize" in config.data:
        raise ValueError(
            "an imported network has no images of its own: give picture files, or their folder"
        )
    data = data_sets.build(config.data)
    if not isinstance(data, MeasurementData):
        raise ValueError(f"the data {config.data.name} is no images")
    chosen = inputs.chosen_images(settings, len(data.test.labels))

    def normalize(images: Array) -> Array:
        return data.normalize(jax.random.key(0), images)

    clean = normalize(data.test.images[chosen])
    if data.own_perturbations is None:
        return _shown(clean, normalize, settings, data.source)
    settings.check_unused()
    key = inputs.measurement_keys(settings.seed).diffeomorphism
    (deformed,), (noisy,) = data.own_perturbations(key, 1, chosen)
    cell = _cell({}, True, clean, deformed, noisy, _pictures(clean, normalize))
    return _whole(clean, normalize, [cell], data.source)


def of_files(files: Sequence[Path], settings: Settings, *, size: int | None = None) -> Shown:
    """One's own images, their central squares, pixels from 0 to 1.

    Args:
      files: pictures, folders of pictures, or .npy files of (images, rows, columns, channels).
      settings: of the perturbations; the first `settings.images` are shown.
      size: pixels a side that they are resized to; None: the smallest of them.

    Raises:
      DataError: if a file is no picture, or there is none.
    """
    pictures: list[Image.Image] = []
    for path in files:
        pictures += _read(path, settings.images - len(pictures))
    if not pictures:
        raise DataError(f"no picture in {', '.join(map(str, files))}")
    side = size or min(min(one.size) for one in pictures)
    squares = np.stack([_square(one, side) for one in pictures]).astype(np.float32) / 255
    names = ", ".join(path.name for path in files)
    return _shown(jnp.asarray(squares), lambda images: images, settings, names)


def _read(path: Path, count: int) -> list[Image.Image]:
    if count <= 0:
        return []
    if path.suffix == ".npy":
        images = image_arrays.open_stored(path)[:count]
        image_arrays.check_units(images, path)
        return [_picture(one) for one in images]
    if path.is_dir():
        return [_opened(one) for one in image_folder.find(path).files[:count]]
    return [_opened(path)]


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            preparation.check_depth(picture)
            return picture.convert("RGB")
    except (OSError, preparation.UnreadableError) as error:
        raise DataError(f"{path} is no picture that can be read: {error}") from error


def _picture(array: np.ndarray) -> Image.Image:
    pixels = array if array.dtype == np.uint8 else np.round(array * 255).astype(np.uint8)
    return Image.fromarray(np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels)


def _square(picture: Image.Image, side: int) -> np.ndarray:
    width, height = picture.size
    short = min(width, height)
    left, top = (width - short) // 2, (height - short) // 2
    square = picture.crop((left, top, left + short, top + short))
    return np.asarray(square.resize((side, side), Image.Resampling.BILINEAR))


def _shown(clean: Array, normalize: Normalize, settings: Settings, source: str) -> Shown:
    """Images under every max-entropy diffeomorphism and kind of noise of the settings."""
    keys = inputs.measurement_keys(settings.seed)
    size = clean.shape[1]
    if size != clean.shape[2]:
        raise ValueError(f"diffeomorphisms are of square images, got {clean.shape[1:3]}")
    fields = jax.random.split(keys.diffeomorphism, len(clean))
    pictures = _pictures(clean, normalize)
    cells = []
    for delta, cutoff in settings.fields:
        moved = deform(
            fields, clean, delta=delta, cutoff=cutoff, interpolation=settings.interpolation
        )
        for kind in settings.noise:
            check_kind(kind, clean.shape[-1])
            noisy = noisy_images(keys.noise, clean, moved[None], kind)[0]
            words = {"delta": delta, "cutoff": cutoff, "noise": kind}
            natural = is_natural(delta, size=size, cutoff=cutoff)
            cells.append(_cell(words, natural, clean, moved, noisy, pictures))
    return _whole(clean, normalize, cells, source)


def _whole(clean: Array, normalize: Normalize, cells: list[Perturbed], source: str) -> Shown:
    return Shown(_pictures(clean, normalize)(clean), _norms(clean), cells, source)


def _cell(
    words: dict[str, Any],
    natural: bool,
    clean: Array,
    deformed: Array,
    noisy: Array,
    pictures: Callable[[Array], np.ndarray],
) -> Perturbed:
    change, noise = _norms(deformed - clean), _norms(noisy - clean)
    return Perturbed(words, natural, pictures(deformed), pictures(noisy), change, noise)


def _norms(images: Array) -> np.ndarray:
    return np.linalg.norm(np.asarray(images).reshape(len(images), -1), axis=1)


def _pictures(clean: Array, normalize: Normalize) -> Callable[[Array], np.ndarray]:
    """What makes pictures, 0 to 1, of normalized images: the inverse of a shift and a scale.

    Images that are no pixels from 0 to 1 are scaled by what the clean ones span.
    """
    black = np.asarray(normalize(jnp.zeros((1, *clean.shape[1:]))))
    white = np.asarray(normalize(jnp.ones((1, *clean.shape[1:]))))
    found = (np.asarray(clean) - black) / (white - black)
    if found.min() < -_ROUNDING or found.max() > 1 + _ROUNDING:
        black, white = np.asarray(clean).min(), np.asarray(clean).max()
    return lambda images: np.clip((np.asarray(images) - black) / (white - black), 0, 1)
