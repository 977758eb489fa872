"""Encodings by the signature of the stroke around a site."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import product

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster import tensor_algebra
from spcnn_lightning.datamodules.raster.along import StrokeAxis, first_run_at_sites
from spcnn_lightning.datamodules.raster.encoders import TOUCHED, Encoder, Range
from spcnn_lightning.datamodules.raster.legs import Floats, Integers
from spcnn_lightning.datamodules.raster.walk import Walk
from spcnn_lightning.datamodules.strokes import offsets_of

WINDOW = 4
"""Segments to each side of a place that its signature is taken over."""

_BLOCK = 4096
"""Windows worked on together, so that what lies between stays in the cache."""


class _StrokeWindows(Encoder):
    """Features of a window of the stroke, taken where the pen first touched the site.

    Each stroke is resampled at n + 1 points about delta / 4 apart, n = floor(1/2 + length / (delta
    / 4)); the window of a point holds four segments to both sides, fewer at the ends of a stroke.
    A site holds the window of the last such point at or before the place of its first visit.
    """

    letters: str

    def __init__(self, level: int, most: int, delta: float | None) -> None:
        if not 0 <= level <= most:
            raise ValueError(f"level is {level}: give one from 0 to {most}")
        if delta is not None and not (math.isfinite(delta) and delta > 0):
            raise ValueError(f"delta is {delta}: give a length in sites above 0")
        self.level, self.delta = level, delta

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Touched from 0, all others of either sign."""
        return ((0.0, 1.0), *((-1.0, 1.0),) * (self.in_channels - 1))

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return touched and the features of the windows, float32, shape (N, C)."""
        features = np.ones((len(walk.coords), self.in_channels), np.float32)
        if self.level == 0 or len(walk.coords) == 0:
            return features
        delta = max(walk.box // 5, 1.0) if self.delta is None else self.delta
        segments = _segments(walk, delta / WINDOW)
        path, first = _padded_path(walk, segments, with_index="n" in self.letters)
        run = first_run_at_sites(walk)
        stroke = walk.stroke[walk.leg[run]]
        point = walk.step[run] * segments[stroke] // np.maximum(walk.steps[stroke], 1)
        features[:, 1:] = self._of_all_windows(np.diff(path, axis=1))[first[stroke] + point]
        return features

    def _of_all_windows(self, ways: Floats) -> NDArray[np.float32]:
        """Return the features of each window, shape (windows, C - 1), a cache's fill at a time."""
        windows = ways.shape[1] - 2 * WINDOW + 1
        features = np.empty((windows, self.in_channels - 1), np.float32)
        for start in range(0, windows, _BLOCK):
            end = min(start + _BLOCK, windows)
            features[start:end] = self._of_windows(ways[:, start : end + 2 * WINDOW - 1]).T
        return features

    @abstractmethod
    def _of_windows(self, ways: Floats) -> Floats:
        """Return the features of each window of 2 * WINDOW segments, (d, M) to (C - 1, windows)."""


class Signature(_StrokeWindows):
    """The path signature of the stroke around a site, up to a level m: 2**(m + 1) - 1 features.

    Level 0 is ``touched``, level 1 the displacement over the window, the antisymmetric part of
    level 2 the area between path and chord. Names spell the words of level 1 and more: r for the
    row, c for the column.

    Args:
        level: m, from 0 to 4.
        delta: Length of stroke to each side, in sites. None: a fifth of the box, rounded down.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        B. Graham, arXiv:1308.0371, with level 2 and its program's window.
    """

    letters = "rc"

    def __init__(self, level: int = 2, delta: float | None = None) -> None:
        super().__init__(level, 4, delta)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Touched and the words."""
        words = [w for j in range(1, self.level + 1) for w in product(self.letters, repeat=j)]
        return (TOUCHED, *(f"signature_{''.join(word)}" for word in words))

    def _of_windows(self, ways: Floats) -> Floats:
        levels = tensor_algebra.of_windows(ways, 2 * WINDOW, self.level)
        return np.concatenate(levels)


class LogSignature(_StrokeWindows):
    """The log signature of (number of the point, row, column) around a site.

    1, 4, 7 or 15 features for level 0 to 3: touched, and the coefficients of the Lyndon words,
    which determine the log signature. Names spell them: n for the number, r and c as before.

    Args:
        level: From 0 to 3.
        delta: Length of stroke to each side, in sites. None: a fifth of the box, rounded down.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        B. Graham's program of 2015, level 3; it may have used another basis of the same space.
    """

    letters = "nrc"

    def __init__(self, level: int = 3, delta: float | None = None) -> None:
        super().__init__(level, 3, delta)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Touched and the words."""
        words = tensor_algebra.lyndon_words(len(self.letters), self.level)
        spelt = ("".join(self.letters[x] for x in word) for word in words)
        return (TOUCHED, *(f"log_signature_{word}" for word in spelt))

    def _of_windows(self, ways: Floats) -> Floats:
        count = len(self.letters)
        signature = tensor_algebra.of_windows(ways, 2 * WINDOW, self.level)
        words = tensor_algebra.lyndon_words(count, self.level)
        return tensor_algebra.coefficients(tensor_algebra.logarithm(signature), count, words)


def _segments(walk: Walk, spacing: float) -> Integers:
    """Return the number of segments of each stroke, shape (S,)."""
    points, offsets = walk.paths.points, walk.paths.point_offsets
    ways = np.diff(points[:, :2], axis=0, append=points[-1:, :2])
    lengths = np.hypot(ways[:, 0], ways[:, 1])
    lengths[offsets[1:] - 1] = 0.0
    length = np.add.reduceat(lengths, offsets[:-1])
    return np.where(walk.steps > 0, np.floor(length / spacing + 0.5), 0).astype(np.int64)


def _padded_path(walk: Walk, segments: Integers, with_index: bool) -> tuple[Floats, Integers]:
    """Return all resampled strokes in one path, and where the windows of each stroke begin.

    Each end is repeated WINDOW times: a segment without length changes no signature, so windows
    are cut off at the ends of strokes. What lies between two strokes is in no window asked for.
    """
    per_stroke = segments + 1 + 2 * WINDOW
    first = offsets_of(per_stroke)[:-1]
    stroke = np.repeat(np.arange(len(segments)), per_stroke)
    number = np.arange(len(stroke)) - first[stroke] - WINDOW
    number = np.clip(number, 0, segments[stroke])
    axis = StrokeAxis(walk)
    place = axis.start[stroke] + number * (walk.steps / np.maximum(segments, 1))[stroke]
    columns = [axis.at(place, walk.paths.points[:, k]) for k in (0, 1)]
    if with_index:
        columns.insert(0, number.astype(np.float64))
    return np.stack(columns), first
