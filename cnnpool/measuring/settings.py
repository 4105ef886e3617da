"""The settings of a measurement."""

import dataclasses
import itertools
import math


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of images, diffeomorphisms, noise and shuffles; defaults as in docs/protocol.md.

    Attributes:
      images: P, the number of test images, drawn at random.
      draws: number of diffeomorphisms, and of noises, per image.
      deltas: nominal displacements of the max-entropy diffeomorphisms, pixels.
      cutoffs: their cut-offs c.
      interpolation: how images are deformed: bilinear, nearest or gaussian.
      image_noise: whether images get the training set's noise, if it has any; applies to the
        test error, too.
      shuffles: number of random channel shuffles per network.
      noise: kinds of noise, "white", "luma", "chroma"; see `cnnpool.instruments.noise`.
      seed: seed of the choice of images and of all other randomness.
      batch_size: how many images, deformed and noisy copies included, have their activations in
        a device's memory at once; 0: as many as fit in a gigabyte, on a CPU at most 75 per core.
    """

    images: int = 500
    draws: int = 1
    deltas: tuple[float, ...] = (1.0,)
    cutoffs: tuple[int, ...] = (3,)
    interpolation: str = "bilinear"
    image_noise: bool = True
    shuffles: int = 5
    noise: tuple[str, ...] = ("white",)
    seed: int = 0
    batch_size: int = 0

    def __post_init__(self):
        """Raises ValueError if a number is impossible."""
        for field, least in {"images": 2, "draws": 1, "shuffles": 1, "batch_size": 0}.items():
            if getattr(self, field) < least:
                raise ValueError(f"--{field} must be at least {least}, got {getattr(self, field)}")
        for field, what in {"deltas": "numbers", "cutoffs": "numbers", "noise": "kinds"}.items():
            values = getattr(self, field)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"--{field} must be different {what}, got {values}")
        if not all(0 < delta < math.inf for delta in self.deltas):
            raise ValueError(f"--deltas must be displacements over 0 pixels, got {self.deltas}")
        if not all(cutoff >= 2 for cutoff in self.cutoffs):
            raise ValueError(
                f"--cutoffs must be 2 or more, or there is no frequency; got {self.cutoffs}"
            )

    def check_unused(self) -> None:
        """Raises ValueError if diffeomorphisms are chosen for data that has its own."""
        default = Settings()
        for field in ("deltas", "cutoffs", "interpolation"):
            if getattr(self, field) != getattr(default, field):
                raise ValueError(
                    f"--{field} is of max-entropy diffeomorphisms; this data has a diffeomorphism "
                    f"of its own, moves of its active pixels: leave out --{field}"
                )
        if self.noise != default.noise:
            raise ValueError(
                f"--noise={','.join(self.noise)} is for color images; this data has noise of its "
                "own, and its images are gray, without chroma: leave out --noise"
            )

    @property
    def fields(self) -> tuple[tuple[float, int], ...]:
        """(delta, cutoff) of every kind of diffeomorphism."""
        return tuple(itertools.product(self.deltas, self.cutoffs))

    def record(self) -> dict:
        """Everything that can change a number; the batch size changes D, G, R by rounding only."""
        record = dataclasses.asdict(self)
        del record["batch_size"]
        if self.noise == Settings().noise:  # omitted, as before there was a choice
            del record["noise"]
        return record
