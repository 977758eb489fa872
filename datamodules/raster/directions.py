"""Histograms of the pen's direction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.encoders import TOUCHED, Encoder
from spcnn_lightning.datamodules.raster.walk import Walk


class Octogram(Encoder):
    """Nine features: touched, and a histogram of the pen's direction over eight directions.

    Direction k points at the angle k * 45 degrees from the row axis to the column axis: 0 is
    downwards, 2 to the right. Each step adds the weight 1 to the site that it starts in, shared
    between the two nearest directions: max(0, 1 - angle / 45 degrees) each. A dot has no direction.

    Source:
        B. Graham's programs of 2015, after the eight-direction histograms of handwriting
        recognition, at the full resolution of the field.
    """

    directions = 8

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names with the angle of each direction, in degrees."""
        return (TOUCHED, *(f"direction_{45 * k}" for k in range(self.directions)))

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return touched and the directions, float32, shape (N, 1 + directions)."""
        bins, sites = self.directions, len(walk.coords)
        turn = np.arctan2(walk.direction[:, 1], walk.direction[:, 0]) * (4 / np.pi)
        lower = np.floor(turn)
        moves = (walk.direction != 0).any(axis=1)
        first = lower.astype(np.int64) % bins
        second = (first + 1) % bins
        upper_share = (turn - lower)[walk.leg]
        weight = walk.count * moves[walk.leg]
        row = walk.site * bins
        cells = np.concatenate([row + first[walk.leg], row + second[walk.leg]])
        shares = np.concatenate([weight * (1 - upper_share), weight * upper_share])
        features = np.ones((sites, 1 + bins), np.float32)
        features[:, 1:] = np.bincount(cells, shares, minlength=sites * bins).reshape(sites, bins)
        return features


class UndirectedOctogram(Octogram):
    """Five features: touched, and the histogram of the octogram with opposite directions as one.

    It holds how strokes lie, not which way they were written: for writers who differ in that, or
    strokes traced from pictures.

    Source:
        B. Graham's program of 2016; there the weight of a direction was the cosine of the angle.
    """

    directions = 4

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names with the angle of each direction, in degrees."""
        return (TOUCHED, *(f"line_{45 * k}" for k in range(self.directions)))
