"""PenPaths: the pen paths of a batch in sites, and the paper's normalisation of size and place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.strokes import StrokeSet, gather_ranges, offsets_of

SMALLEST_EXTENT = 1e-4
"""Extent, in pen units, below which a character counts as a dot (guards the division)."""


@dataclass(frozen=True, eq=False)
class PenPaths:
    """The strokes of B samples in units of sites, the origin in the middle of the field.

    Args:
        points: float64, shape (P, 2): row (downwards) and column; shape (P, 3) with a third axis,
            on a field that has one.
        point_offsets: int64, shape (S + 1,): first point of each stroke, then P.
        stroke_offsets: int64, shape (B + 1,): first stroke of each sample, then S.
        time: float, shape (P,), in the source's unit, if recorded.
        pressure: float, shape (P,), in the source's unit, if recorded.
    """

    points: NDArray[np.float64]
    point_offsets: NDArray[np.int64]
    stroke_offsets: NDArray[np.int64]
    time: NDArray[np.floating] | None = None
    pressure: NDArray[np.floating] | None = None

    def __len__(self) -> int:
        return len(self.stroke_offsets) - 1

    def moved(self, points: NDArray[np.float64]) -> PenPaths:
        """Return the same strokes with other points, shape (P, 2) or (P, 3)."""
        return replace(self, points=points)

    def points_per_sample(self) -> NDArray[np.int64]:
        """Return the number of pen points of each sample, shape (B,)."""
        return np.diff(self.point_offsets[self.stroke_offsets])

    def sample_of_point(self) -> NDArray[np.int64]:
        """Return the sample that each pen point belongs to, shape (P,)."""
        return np.repeat(np.arange(len(self)), self.points_per_sample())

    def sample_of_stroke(self) -> NDArray[np.int64]:
        """Return the sample that each stroke belongs to, shape (S,)."""
        return np.repeat(np.arange(len(self)), np.diff(self.stroke_offsets))

    def keep_strokes(self, kept: NDArray[np.bool_]) -> PenPaths:
        """Return the samples without the strokes for which ``kept``, shape (S,), is False."""
        points, point_offsets = gather_ranges(self.point_offsets, np.flatnonzero(kept))
        strokes = np.bincount(self.sample_of_stroke()[kept], minlength=len(self))
        return PenPaths(
            self.points[points],
            point_offsets,
            offsets_of(strokes),
            None if self.time is None else self.time[points],
            None if self.pressure is None else self.pressure[points],
        )


def normalise(strokes: StrokeSet, box: float) -> PenPaths:
    """Scale each character to fit a square of ``box`` sites, its middle at the origin.

    The larger of height and width becomes ``box``; the aspect ratio stays.

    Source:
        The programs of B. Graham, 2013 to 2015: box is a third of the field.
    """
    kept = (strokes.point_offsets, strokes.stroke_offsets, strokes.time, strokes.pressure)
    if len(strokes) == 0:
        return PenPaths(np.zeros((0, 2)), *kept)
    points = strokes.points.astype(np.float64)
    offsets = strokes.point_offsets[strokes.stroke_offsets]
    low = np.minimum.reduceat(points, offsets[:-1], axis=0)
    high = np.maximum.reduceat(points, offsets[:-1], axis=0)
    scale = box / np.maximum((high - low).max(axis=1), SMALLEST_EXTENT)
    per_sample = np.diff(offsets)
    points -= np.repeat((low + high) / 2, per_sample, axis=0)
    points *= np.repeat(scale, per_sample)[:, None]
    return PenPaths(points, *kept)
