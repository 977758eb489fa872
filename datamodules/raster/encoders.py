"""Encodings: what a site that the pen touched holds."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.walk import Walk


class Encoder(ABC):
    """Turns a `Walk` into one feature vector per touched site.

    All encoders see the same sites, so the features of several can stand side by side. A new
    encoding is one subclass. Features are not scaled: `HandwritingDataset` divides them by their
    largest value over the training data.
    """

    @property
    @abstractmethod
    def channel_names(self) -> tuple[str, ...]:
        """A name for each feature."""

    @property
    def in_channels(self) -> int:
        """Number of features of a site, C."""
        return len(self.channel_names)

    @abstractmethod
    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return the features, float32, shape (N, C), one row per row of ``walk.coords``."""


class Bitmap(Encoder):
    """One feature: 1 where the pen was, dots included.

    Source:
        B. Graham's programs of 2015, where a character without length draws nothing; here it does.
    """

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The one name."""
        return ("touched",)

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return ones, float32, shape (N, 1)."""
        return np.ones((len(walk.coords), 1), np.float32)


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
        return ("touched", *(f"direction_{k * 360 // self.directions}" for k in range(8)))

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return touched and the eight directions, float32, shape (N, 9)."""
        bins, sites = self.directions, len(walk.coords)
        turn = np.arctan2(walk.direction[:, 1], walk.direction[:, 0]) * (bins / (2 * np.pi))
        lower = np.floor(turn)
        moves = (walk.direction != 0).any(axis=1)
        first = (lower.astype(np.int64) % bins)[walk.leg]
        upper_share = (turn - lower)[walk.leg]
        weight = walk.count * moves[walk.leg]
        row = walk.site * bins
        cells = np.concatenate([row + first, row + (first + 1) % bins])
        shares = np.concatenate([weight * (1 - upper_share), weight * upper_share])
        features = np.ones((sites, 1 + bins), np.float32)
        features[:, 1:] = np.bincount(cells, shares, minlength=sites * bins).reshape(sites, bins)
        return features
