"""Encodings of how the pen moved: bends, speed, pressure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.along import StrokeAxis, mean_at_sites
from spcnn_lightning.datamodules.raster.encoders import Encoder, Range
from spcnn_lightning.datamodules.raster.legs import Floats
from spcnn_lightning.datamodules.raster.walk import Walk


class _Windowed(Encoder):
    """An encoder that looks ``reach`` sites along the stroke to both sides."""

    def __init__(self, reach: float | None = None) -> None:
        if reach is not None and not (math.isfinite(reach) and reach > 0):
            raise ValueError(f"reach is {reach}: give a length in sites above 0")
        self.reach = reach

    def _reach_in_steps(self, walk: Walk) -> float:
        return (walk.box / 16 if self.reach is None else self.reach) / walk.density


class Curvature(_Windowed):
    """Two features: how far the pen turns sideways and back, between two chords of the stroke.

    With a the chord that ends at a place and b the one that begins there: ``turn_sideways`` is the
    sine of the angle from a to b, positive from the row axis towards the column axis, and
    ``turn_back`` is (1 - cosine) / 2: 0 straight on, 1 in a cusp. Together they are continuous,
    where the angle itself jumps. A site holds the mean over its steps; where a stroke begins or
    ends, zeros.

    Args:
        reach: Length of a chord along the stroke, in sites. None: a sixteenth of the box.

    Raises:
        ValueError: If ``reach`` is not positive.
    """

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The two names."""
        return ("turn_sideways", "turn_back")

    @property
    def ranges(self) -> tuple[Range, ...]:
        """A sine, and half of one minus a cosine."""
        return ((-1.0, 1.0), (0.0, 1.0))

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return the mean turns, float32, shape (N, 2)."""
        axis = StrokeAxis(walk)
        before, after = axis.around_runs(self._reach_in_steps(walk))
        rows, columns = walk.paths.points[:, 0], walk.paths.points[:, 1]
        chords = []
        for start, end in ((before, axis.runs), (axis.runs, after)):
            chords.append([axis.at(end, x) - axis.at(start, x) for x in (rows, columns)])
        (a_down, a_right), (b_down, b_right) = chords
        lengths = np.hypot(a_down, a_right) * np.hypot(b_down, b_right)
        turned = lengths > 1e-9
        sine = _ratio(a_down * b_right - a_right * b_down, lengths, turned, 0.0)
        cosine = _ratio(a_down * b_down + a_right * b_right, lengths, turned, 1.0)
        means = [mean_at_sites(walk, sine), mean_at_sites(walk, (1 - cosine) / 2)]
        return np.stack(means, axis=1).astype(np.float32)


class Speed(_Windowed):
    """One feature: the speed v of the pen against the mean m of its character, as v / (v + m).

    So the unit of time has no meaning, 0 is a pen at rest, 1/2 the mean, and 1 a pen that moved in
    no time at all. A site holds the mean over its steps. The mean of a character leaves out the
    time between strokes.

    Args:
        reach: Speed is taken over this length of stroke to both sides, in sites. None: a sixteenth
            of the box.

    Raises:
        ValueError: If ``reach`` is not positive.
    """

    needs = ("time",)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The one name."""
        return ("speed",)

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return the mean speed, float32, shape (N, 1)."""
        axis, paths = StrokeAxis(walk), walk.paths
        time = recorded(paths.time, "time")
        before, after = axis.around_runs(self._reach_in_steps(walk))
        steps = after - before
        lasted = np.maximum(axis.at(after, time) - axis.at(before, time), 0.0)

        sample = paths.sample_of_stroke()
        of_stroke = time[paths.point_offsets[1:] - 1] - time[paths.point_offsets[:-1]]
        all_steps = np.bincount(sample, walk.steps, minlength=len(paths))
        all_time = np.bincount(sample, np.maximum(of_stroke, 0.0), minlength=len(paths))
        sample = sample[walk.stroke[walk.leg]]
        fast, slow = steps * all_time[sample], lasted * all_steps[sample]
        speed = _ratio(fast, fast + slow, fast + slow > 0, 0.5)
        speed[steps == 0] = 0.0
        return mean_at_sites(walk, speed).astype(np.float32)[:, None]


class Pressure(Encoder):
    """One feature: the mean pressure of the pen over the steps on a site, in the source's unit."""

    needs = ("pressure",)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The one name."""
        return ("pressure",)

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return the mean pressure, float32, shape (N, 1)."""
        axis = StrokeAxis(walk)
        pressure = axis.at(axis.runs, recorded(walk.paths.pressure, "pressure"))
        return mean_at_sites(walk, pressure).astype(np.float32)[:, None]


def recorded(values: NDArray[np.floating] | None, name: str) -> Floats:
    """Return what the pen recorded as float64, shape (P,); `Rasteriser` checks first."""
    if values is None:
        raise ValueError(f"the pen paths have no {name}: give PenPaths their {name}")
    return values.astype(np.float64)


def _ratio(above: Floats, below: Floats, where: NDArray[np.bool_], otherwise: float) -> Floats:
    return np.divide(above, below, out=np.full_like(above, otherwise), where=where)
