"""Looking up what the pen did at any place along a stroke."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.legs import Floats, Integers
from spcnn_lightning.datamodules.raster.walk import Walk
from spcnn_lightning.datamodules.strokes import offsets_of


class StrokeAxis:
    """All strokes of a walk laid end to end on one axis, in steps, so that one look-up serves all.

    Stroke s, of n steps, covers ``start[s] .. start[s] + n``.

    Args:
        walk: Whose strokes.

    Attributes:
        start: int64, shape (S,).
        runs: float64, shape (R,): the middle of the steps of each run. What is linear along a leg
            has its mean over the run there.
    """

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self.start: Integers = offsets_of(walk.steps + 1)[:-1]
        per_stroke = np.diff(walk.paths.point_offsets)
        self._points: Floats = walk.place + np.repeat(self.start, per_stroke)
        stroke = walk.stroke[walk.leg]
        self.runs: Floats = self.start[stroke] + walk.step + (walk.count - 1) / 2
        self._first, self._last = self.start[stroke], (self.start + walk.steps)[stroke]

    def at(self, place: Floats, values: NDArray[np.floating]) -> Floats:
        """Return what was recorded per pen point, shape (P,), between points at these places."""
        if len(self._points) == 0:
            return np.zeros(len(place))
        return np.asarray(np.interp(place, self._points, values))

    def around_runs(self, reach: float) -> tuple[Floats, Floats]:
        """Return the places ``reach`` steps before and after each run, within its stroke."""
        before = np.maximum(self.runs - reach, self._first)
        return before, np.minimum(self.runs + reach, self._last)


def mean_at_sites(walk: Walk, values: Floats) -> Floats:
    """Return the mean over the steps on each site of a value per run, shape (R,) to (N,)."""
    sites = len(walk.coords)
    steps = np.bincount(walk.site, walk.count, minlength=sites)
    return np.bincount(walk.site, walk.count * values, minlength=sites) / steps


def first_run_at_sites(walk: Walk) -> Integers:
    """Return the run with which the pen first came to each site, int64, shape (N,)."""
    first = np.zeros(len(walk.coords), np.int64)
    first[walk.site[::-1]] = np.arange(len(walk.site))[::-1]  # the last one assigned stays
    return first
