"""Rasterising: from strokes to the sites and features of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster.augmentation import Augmentation
from spcnn_lightning.datamodules.raster.encoders import Encoder
from spcnn_lightning.datamodules.raster.paths import normalise
from spcnn_lightning.datamodules.raster.walk import walk_paths
from spcnn_lightning.datamodules.strokes import StrokeSet


@dataclass(frozen=True, eq=False)
class RasterBatch:
    """The sites and features of B samples.

    Args:
        coords: int32, shape (N, 3): sample, row, column, sorted in this order.
        features: float32, shape (N, C).
        dropped: int64, shape (B,): steps of the pen that fell outside the field.
    """

    coords: NDArray[np.int32]
    features: NDArray[np.float32]
    dropped: NDArray[np.int64]


@dataclass(frozen=True)
class Rasteriser:
    """Draws strokes on a field, the same way for every sample.

    Args:
        spatial_shape: Rows and columns of the field.
        box: The larger of a character's height and width, in sites, before augmentation.
        encoder: Decides the features of a site.
        augmentation: Distorts training strokes; None for none.
        density: Length of a step of the walk along a stroke, in sites.

    Raises:
        ValueError: If the box does not fit into the field, or a size is not positive.
    """

    spatial_shape: tuple[int, int]
    box: float
    encoder: Encoder
    augmentation: Augmentation | None = None
    density: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.box <= min(self.spatial_shape)):
            raise ValueError(
                f"box {self.box} does not fit into a field of {self.spatial_shape} sites: the "
                "paper's box is a third of the field"
            )
        if not (math.isfinite(self.density) and self.density > 0):
            raise ValueError(f"density is {self.density}: give the length of a step in sites")

    def __call__(self, strokes: StrokeSet, random: SampleRandom | None = None) -> RasterBatch:
        """Return the sites and features of the samples, in their order.

        Args:
            strokes: B characters.
            random: Their random numbers; needed if there is an augmentation.
        """
        paths = normalise(strokes, self.box)
        if self.augmentation is not None:
            if random is None:
                raise ValueError("the augmentation needs random numbers: pass random=SampleRandom")
            paths = self.augmentation(paths, self.box, random)
        walk = walk_paths(paths, self.spatial_shape, self.density)
        return RasterBatch(walk.coords, self.encoder.encode(walk), walk.dropped)
