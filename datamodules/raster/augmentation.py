"""Distortions of training strokes; test strokes are never distorted."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from spcnn_lightning.datamodules.affine import between, random_maps
from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster.paths import PenPaths


class Augmentation(ABC):
    """Distorts the pen paths of B samples, each with random numbers of its own."""

    needs: tuple[str, ...] = ()
    """What a source must record besides points: "time", "pressure"."""

    @property
    def parts(self) -> tuple[Augmentation, ...]:
        """The augmentations that this one is made of; itself if it is made of none."""
        return (self,)

    @abstractmethod
    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return distorted paths.

        Args:
            paths: Normalised, in sites, origin in the middle.
            box: Size, in sites, that characters were normalised to.
            random: Gives each sample its numbers; use nothing else, so that a sample looks the same
                in any batch and any worker.
        """


class Augmentations(Augmentation):
    """Several distortions, one after the other, each with random numbers of its own.

    The first draws what it would draw alone, so adding others behind it leaves it as it was.

    Args:
        augmentations: In their order.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, augmentations: Sequence[Augmentation]) -> None:
        self.augmentations = tuple(inner for part in augmentations for inner in part.parts)
        if not self.augmentations:
            raise ValueError("no augmentations given: use augment=False for none")

    @property
    def parts(self) -> tuple[Augmentation, ...]:
        """The parts of all parts."""
        return tuple(inner for part in self.augmentations for inner in part.parts)

    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return distorted paths."""
        for number, augmentation in enumerate(self.augmentations):
            paths = augmentation(paths, box, random.part(number))
        return paths


class HandwritingAugmentation(Augmentation):
    """The paper's distortions of online characters, in this order.

    1. Each stroke is shifted by U(-jitter, jitter) sites along each axis.
    2. Rows and columns are stretched by 1 + U(-stretch, stretch) each.
    3. One of three, with equal probability: rotation by U(-rotate, rotate) radians, slant of the
       columns, or slant of the rows, by U(-slant, slant) columns per row or rows per column.
    4. The whole character is shifted by U(-shift, shift) sites along each axis.

    Args:
        jitter: In sites.
        stretch: As a share of the size, below 1.
        rotate: In radians.
        slant: In sites per site.
        shift: In sites. None: a quarter of the box, 4 sites for a box of 16. The author used 10 to
            12 for a box of 64.

    Raises:
        ValueError: If an amount is negative or not finite, or ``stretch`` is 1 or more.

    Source:
        B. Graham's programs of 2013 (DeepCNet) and 2015 (SparseConvNet), equal but for the shift.
    """

    def __init__(
        self,
        jitter: float = 1.0,
        stretch: float = 0.3,
        rotate: float = 0.3,
        slant: float = 0.3,
        shift: float | None = None,
    ) -> None:
        amounts = {"jitter": jitter, "stretch": stretch, "rotate": rotate, "slant": slant}
        amounts["shift"] = 0.0 if shift is None else shift
        for name, amount in amounts.items():
            if not (math.isfinite(amount) and amount >= 0):
                raise ValueError(f"{name} is {amount}: give a finite amount of at least 0")
        if stretch >= 1:
            raise ValueError(f"stretch is {stretch}: from 1 on it would mirror or flatten strokes")
        self.jitter, self.stretch, self.rotate = jitter, stretch, rotate
        self.slant, self.shift = slant, shift

    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return distorted paths."""
        shift = box / 4 if self.shift is None else self.shift
        draws = random.uniform_table(6).T
        sample, per_stroke = paths.sample_of_point(), np.diff(paths.point_offsets)
        maps = random_maps(draws[:4], self.stretch, self.rotate, self.slant)
        a, b, c, d = (entries[sample] for entries in maps.reshape(-1, 4).T)
        down, right = (between(-shift, shift, draw)[sample] for draw in draws[4:])
        jitter = random.uniform_per_stroke(2, paths.stroke_offsets)
        rows, columns = (
            paths.points[:, axis]
            + np.repeat(between(-self.jitter, self.jitter, jitter[axis]), per_stroke)
            for axis in (0, 1)
        )
        moved = np.empty_like(paths.points)
        moved[:, 0] = a * rows + b * columns + down
        moved[:, 1] = c * rows + d * columns + right
        return paths.moved(moved)
