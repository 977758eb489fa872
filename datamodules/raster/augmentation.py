"""Distortions of training strokes; test strokes are never distorted."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

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
        matrix = self._matrices(random)
        moves = np.stack([random.uniform(draw, -shift, shift) for draw in (4, 5)], axis=1)
        jitters = np.stack(
            [
                random.uniform_per_stroke(axis, paths.stroke_offsets, -self.jitter, self.jitter)
                for axis in (0, 1)
            ],
            axis=1,
        )
        points = paths.points + np.repeat(jitters, np.diff(paths.point_offsets), axis=0)
        per_sample = paths.points_per_sample()
        rows, columns = points[:, 0], points[:, 1]
        (a, b, c, d), (down, right) = (
            np.repeat(entries, per_sample, axis=0).T for entries in (matrix, moves)
        )
        return paths.moved(
            np.stack([a * rows + b * columns + down, c * rows + d * columns + right], axis=1)
        )

    def _matrices(self, random: SampleRandom) -> NDArray[np.float64]:
        """Return stretch and then rotation or slant as a b c d, shape (B, 4).

        The new row is a * row + b * column, the new column c * row + d * column.
        """
        height = 1 + random.uniform(0, -self.stretch, self.stretch)
        width = 1 + random.uniform(1, -self.stretch, self.stretch)
        kind = np.floor(random.uniform(2) * 3).astype(np.int64)
        amount = random.uniform(3, -1.0, 1.0)
        angle, slant = amount * self.rotate, amount * self.slant
        turns, slants_columns, slants_rows = kind == 0, kind == 1, kind == 2
        a = d = np.where(turns, np.cos(angle), 1.0)
        b = np.where(turns, np.sin(angle), np.where(slants_rows, slant, 0.0))
        c = np.where(turns, -np.sin(angle), np.where(slants_columns, slant, 0.0))
        return np.stack([a * height, b * width, c * height, d * width], axis=1)
