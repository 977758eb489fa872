"""Distortions for writers' variety: bent paper, strokes left out, uneven speed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster.augmentation import Augmentation
from spcnn_lightning.datamodules.raster.legs import Floats, Integers
from spcnn_lightning.datamodules.raster.motion import recorded
from spcnn_lightning.datamodules.raster.paths import PenPaths


class Elastic(Augmentation):
    """Moves each pen point by a smooth random field, as if the paper were bent.

    Independent uniform numbers on a lattice of spacing ``scale`` are smoothed by a Gaussian of that
    width and scaled to the standard deviation ``amount``, separately for rows and columns; pen
    points look the field up between the points of a grid. Beyond three quarters of the box from
    the middle, the field stays as it is there.

    Args:
        amount: Standard deviation of the displacement along an axis, as a share of the box.
        scale: Distance over which the displacement changes, as a share of the box.

    Raises:
        ValueError: If ``amount`` is negative, or ``scale`` is not between 0.05 and 1.

    Source:
        B. Graham's program of 2013, where it was not used: about amount 0.03, scale 0.3.
    """

    extent = 0.75

    def __init__(self, amount: float = 0.03, scale: float = 0.3) -> None:
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f"amount is {amount}: give a finite amount of at least 0")
        if not 0.05 <= scale <= 1:
            raise ValueError(f"scale is {scale}: give a share of the box between 0.05 and 1")
        self.amount, self.scale = amount, scale
        beyond = math.ceil(self.extent / scale) + 1  # lattice points that the border still feels
        self._lattice = np.arange(-beyond, beyond + 1) * scale
        self._grid = np.linspace(-self.extent, self.extent, 1 + math.ceil(8 * self.extent / scale))
        weights = np.exp(-0.5 * ((self._grid[:, None] - self._lattice) / scale) ** 2)
        self._smooth = weights / np.sqrt((weights**2).sum(axis=1, keepdims=True))

    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return bent paths."""
        fields, width = self.fields(random), self.grid_points
        row, down = self._cell(paths.points[:, 0], box)
        column, right = self._cell(paths.points[:, 1], box)
        corner = (paths.sample_of_point() * width + row) * width + column
        moved = paths.points.copy()
        for axis, field in enumerate(fields):
            upper = field[corner] * (1 - right) + field[corner + 1] * right
            lower = field[corner + width] * (1 - right) + field[corner + width + 1] * right
            moved[:, axis] += (self.amount * box) * (upper * (1 - down) + lower * down)
        return paths.moved(moved)

    @property
    def grid_points(self) -> int:
        """Points of the grid along each axis."""
        return len(self._grid)

    def _cell(self, place: Floats, box: float) -> tuple[Integers, Floats]:
        """Return the cell of the grid along one axis, and how far into it, from 0 to 1."""
        cells = len(self._grid) - 1
        place = place * (cells / (2 * self.extent * box)) + cells / 2
        place = np.minimum(np.maximum(place, 0.0), cells)
        cell = np.minimum(place.astype(np.int64), cells - 1)
        return cell, place - cell

    def fields(self, random: SampleRandom) -> Floats:
        """Return the fields of rows and columns, of variance 1, shape (2, B * grid * grid).

        The grid has `grid_points` along each axis, from -`extent` to `extent` boxes.
        """
        size, samples = len(self._lattice), len(random.indices)
        noise = math.sqrt(3) * (2 * random.uniform_table(2 * size * size) - 1)
        noise = noise.reshape(samples, 2, size, size).transpose(1, 0, 2, 3)
        # One product for each sample, so that rounding does not depend on the rest of the batch.
        fields: Floats = self._smooth @ noise @ self._smooth.T
        return fields.reshape(2, -1)


class StrokeDropping(Augmentation):
    """Leaves out each stroke with a given probability, but never all strokes of a character.

    Args:
        probability: From 0 to below 1.

    Raises:
        ValueError: If ``probability`` is out of range.
    """

    def __init__(self, probability: float = 0.05) -> None:
        if not 0 <= probability < 1:
            raise ValueError(f"probability is {probability}: give one from 0 to below 1")
        self.probability = probability

    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return the strokes that stay."""
        if self.probability == 0 or len(paths) == 0:
            return paths
        numbers = random.uniform_per_stroke(1, paths.stroke_offsets)[0]
        # Of a character without luck, the stroke with the largest number stays.
        largest = np.maximum.reduceat(numbers, paths.stroke_offsets[:-1])
        limit = np.minimum(self.probability, largest)
        return paths.keep_strokes(numbers >= np.repeat(limit, np.diff(paths.stroke_offsets)))


class Mirror(Augmentation):
    """Swaps left and right of a sample with a given probability: for drawings, not for writing.

    Args:
        probability: From 0 to 1.

    Raises:
        ValueError: If ``probability`` is out of range.
    """

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability is {probability}: give one from 0 to 1")
        self.probability = probability

    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return the samples, some mirrored about their middle column, which is column 0."""
        mirrored = random.uniform(0) < self.probability
        sign = np.where(mirrored, -1.0, 1.0)[paths.sample_of_point()]
        return paths.moved(paths.points * np.stack([np.ones_like(sign), sign], axis=1))


class SpeedWarp(Augmentation):
    """Lets time run faster and slower along a character, by a smooth random factor.

    The time between neighbouring pen points is multiplied by exp(amount * g), where g, over the
    share of the character's time so far, is a sum of three cosines of random phase, of variance 1.
    Points stay where they are: only encodings that look at time see a difference.

    Args:
        amount: Standard deviation of the logarithm of the factor.

    Raises:
        ValueError: If ``amount`` is negative or not finite.
    """

    needs = ("time",)

    def __init__(self, amount: float = 0.3) -> None:
        if not (math.isfinite(amount) and amount >= 0):
            raise ValueError(f"amount is {amount}: give a finite amount of at least 0")
        self.amount = amount

    def __call__(self, paths: PenPaths, box: float, random: SampleRandom) -> PenPaths:
        """Return the paths with another time."""
        time = recorded(paths.time, "time")
        if len(paths) == 0:
            return paths
        offsets = paths.point_offsets[paths.stroke_offsets]
        sample = paths.sample_of_point()
        begin, end = time[offsets[:-1]], time[offsets[1:] - 1]
        passed = np.diff(time, prepend=time[:1])
        passed[offsets[:-1]] = 0.0
        middle, total = time - passed / 2 - begin[sample], (end - begin)[sample]
        share = np.divide(middle, total, out=np.zeros_like(time), where=total > 0)
        passed *= np.exp(self.amount * _waves(share, sample, random))
        warped = np.cumsum(passed)
        return replace(paths, time=warped + (begin - warped[offsets[:-1]])[sample])


def _waves(share: Floats, sample: Integers, random: SampleRandom) -> Floats:
    """Return three cosines with 1/2, 1 and 3/2 periods over a character, summed to variance 1."""
    phases = 2 * math.pi * random.uniform_table(3)
    waves = [np.cos(math.pi * k * share + phases[sample, k - 1]) for k in (1, 2, 3)]
    return np.asarray(np.sum(waves, axis=0) * math.sqrt(2 / 3))
