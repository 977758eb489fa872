"""Encodings: what a site that the pen touched holds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.paths import PenPaths
from spcnn_lightning.datamodules.raster.walk import Walk

Range = tuple[float, float]
TOUCHED = "touched"
"""The feature that is 1 on every site that the pen touched: the one that encodings may share."""


class Encoder(ABC):
    """Turns a `Walk` into one feature vector per touched site.

    All encoders see the same sites, so the features of several can stand side by side: see
    `Encodings`. A new encoding is one subclass. Features are not scaled: `HandwritingDataset`
    divides them by their largest absolute value over the training data.
    """

    needs: tuple[str, ...] = ()
    """What a source must record besides points: "time", "pressure"."""

    num_axes: int = 2
    """Number of axes of the field."""

    @property
    @abstractmethod
    def channel_names(self) -> tuple[str, ...]:
        """A name for each feature."""

    @property
    def in_channels(self) -> int:
        """Number of features of a site, C."""
        return len(self.channel_names)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """Smallest and largest value of each feature over the data that scaled it: (0, 1)."""
        return ((0.0, 1.0),) * self.in_channels

    @property
    def parts(self) -> tuple[Encoder, ...]:
        """The encoders that this one is made of; itself if it is made of none."""
        return (self,)

    def place(self, paths: PenPaths, spatial_shape: tuple[int, ...]) -> PenPaths:
        """Return the paths with one coordinate for each axis of the field, just before the walk."""
        return paths

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
        return (TOUCHED,)

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return ones, float32, shape (N, 1)."""
        return np.ones((len(walk.coords), 1), np.float32)


class Encodings(Encoder):
    """The features of several encoders, side by side in their order.

    Several may give ``touched``, which is the same for all; it stands once, where it comes first.

    Args:
        encoders: At least one.

    Raises:
        ValueError: If there is none, two give another feature of the same name, or several want a
            field of other axes than rows and columns.

    Example:
        >>> from spcnn_lightning.datamodules.raster import Octogram, Pressure
        >>> Encodings([Bitmap(), Octogram(), Pressure()]).in_channels
        10
    """

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        self.encoders = tuple(encoders)
        if not self.encoders:
            raise ValueError("no encoders given: a site would hold nothing")
        counts = Counter(name for part in self.encoders for name in part.channel_names)
        if twice := [name for name, count in counts.items() if count > 1 and name != TOUCHED]:
            raise ValueError(
                f"{', '.join(twice)} would stand twice in the features of "
                f"{', '.join(type(part).__name__ for part in self.encoders)}: leave one out"
            )
        axes = [part.num_axes for part in self.encoders]
        if len(axes) > 1 and set(axes) != {2}:
            raise ValueError(
                f"encoders for fields of {axes} axes cannot stand side by side, since a site has "
                "one place: put one SpaceTime around them all"
            )
        self.num_axes = axes[0]
        columns, seen = [], False
        for name in (name for part in self.encoders for name in part.channel_names):
            columns.append(not (name == TOUCHED and seen))
            seen |= name == TOUCHED
        self._kept = np.flatnonzero(columns)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of all parts."""
        names = [name for part in self.encoders for name in part.channel_names]
        return tuple(names[column] for column in self._kept)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """The ranges of all parts."""
        ranges = [range_ for part in self.encoders for range_ in part.ranges]
        return tuple(ranges[column] for column in self._kept)

    @property
    def parts(self) -> tuple[Encoder, ...]:
        """The parts of all parts."""
        return tuple(inner for part in self.encoders for inner in part.parts)

    def place(self, paths: PenPaths, spatial_shape: tuple[int, ...]) -> PenPaths:
        """Return the paths as the first part places them."""
        return self.encoders[0].place(paths, spatial_shape)

    def encode(self, walk: Walk) -> NDArray[np.float32]:
        """Return the features of all parts, float32, shape (N, C)."""
        features = np.concatenate([part.encode(walk) for part in self.encoders], axis=1)
        return features[:, self._kept] if len(self._kept) < features.shape[1] else features
