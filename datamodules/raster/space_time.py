"""The space-time encoding: strokes as curves in a field with a third axis, time."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.encoders import Encoder, Range
from spcnn_lightning.datamodules.raster.legs import Floats
from spcnn_lightning.datamodules.raster.motion import recorded
from spcnn_lightning.datamodules.raster.paths import PenPaths
from spcnn_lightning.datamodules.raster.walk import Walk


class SpaceTime(Encoder):
    """Lifts a character into a 3-D field (row, column, time), for 3-D networks.

    From its first point to its last, a character fills the middle third of the third axis. Lines
    that cross in the plane part there, and the order of strokes can be seen.

    Args:
        encoder: What a site holds.
        by: What time is: "length", the way of the pen so far, which every source has (strokes
            follow one another without a gap), or "time", the recorded time.

    Raises:
        ValueError: If ``by`` is neither, or ``encoder`` is for a 3-D field itself.

    Source:
        B. Graham's program of 2015 for Chinese characters; there the third axis had a fixed scale.
    """

    num_axes = 3

    def __init__(self, encoder: Encoder, by: Literal["length", "time"] = "length") -> None:
        if by not in ("length", "time"):
            raise ValueError(f"by is {by!r}: give 'length' or 'time'")
        if encoder.num_axes != 2:
            raise ValueError(f"{type(encoder).__name__} has a third axis already: leave one out")
        self.encoder, self.by = encoder, by
        self.needs = ("time",) if by == "time" else ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of the encoder."""
        return self.encoder.channel_names

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges of the encoder."""
        return self.encoder.ranges

    @property
    def parts(self) -> tuple[Encoder, ...]:
        """Itself and the parts of the encoder."""
        return (self, *self.encoder.parts)

    def place(self, paths: PenPaths, spatial_shape: tuple[int, ...]) -> PenPaths:
        """Return the paths with time, in sites, as a third coordinate."""
        if len(paths) == 0:
            return paths.moved(np.zeros((0, 3)))
        clock = _travelled(paths) if self.by == "length" else recorded(paths.time, "time")
        offsets = paths.point_offsets[paths.stroke_offsets]
        low = np.minimum.reduceat(clock, offsets[:-1])
        extent = np.maximum.reduceat(clock, offsets[:-1]) - low
        sample = paths.sample_of_point()
        share = np.full(len(clock), 0.5)
        np.divide(clock - low[sample], extent[sample], out=share, where=extent[sample] > 0)
        lift = (share - 0.5) * (spatial_shape[2] / 3)
        return paths.moved(np.concatenate([paths.points, lift[:, None]], axis=1))

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return the features of the encoder, float32, shape (N, C)."""
        return self.encoder.encode(walk)


def _travelled(paths: PenPaths) -> Floats:
    """Return the way of the pen up to each point, on the paper alone, shape (P,)."""
    ways = np.diff(paths.points, axis=0, prepend=paths.points[:1])
    lengths = np.hypot(ways[:, 0], ways[:, 1])
    lengths[paths.point_offsets[:-1]] = 0.0
    return np.cumsum(lengths)
