"""Rasterising: from strokes to the sites and features of a batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
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
        coords: int32, shape (N, 1 + D): sample, row, column (and third axis), sorted in this order.
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
        spatial_shape: Rows and columns of the field, and its third axis if the encoder has one.
        box: The larger of a character's height and width, in sites, before augmentation.
        encoder: Decides the features of a site.
        augmentation: Distorts training strokes; None for none.
        density: Length of a step of the walk along a stroke, in sites.

    Raises:
        ValueError: If the box does not fit into the field, a size is not positive, or the field
            has another number of axes than the encoder.
    """

    spatial_shape: tuple[int, ...]
    box: float
    encoder: Encoder
    augmentation: Augmentation | None = None
    density: float = 0.1

    def __post_init__(self) -> None:
        if len(self.spatial_shape) != self.encoder.num_axes:
            raise ValueError(
                f"a field of {self.spatial_shape} sites has {len(self.spatial_shape)} axes, "
                f"{type(self.encoder).__name__} needs {self.encoder.num_axes}: 2 for rows and "
                "columns, 3 for SpaceTime"
            )
        if not (0 < self.box <= min(self.spatial_shape[:2])) or min(self.spatial_shape) < 1:
            raise ValueError(
                f"box {self.box} does not fit into a field of {self.spatial_shape} sites: the "
                "paper's box is a third of the field"
            )
        if not (math.isfinite(self.density) and self.density > 0):
            raise ValueError(f"density is {self.density}: give the length of a step in sites")

    def check(self, strokes: StrokeSet, source: str) -> None:
        """Raise `DataError` if a part needs what ``strokes``, from ``source``, do not record."""
        parts: list[Encoder | Augmentation] = [*self.encoder.parts]
        parts += () if self.augmentation is None else self.augmentation.parts
        for part in parts:
            for name in part.needs:
                if getattr(strokes, name) is None:
                    raise DataError(
                        f"{type(part).__name__} needs the {name} of each pen point, which {source} "
                        f"does not record: choose a source that does, or leave the part out"
                    )

    def __call__(self, strokes: StrokeSet, random: SampleRandom | None = None) -> RasterBatch:
        """Return the sites and features of the samples, in their order.

        Args:
            strokes: B characters.
            random: Their random numbers; needed if there is an augmentation.

        Raises:
            DataError: If a part needs times or pressures that ``strokes`` do not have.
        """
        self.check(strokes, "this set of strokes")
        paths = normalise(strokes, self.box)
        if self.augmentation is not None:
            if random is None:
                raise ValueError("the augmentation needs random numbers: pass random=SampleRandom")
            paths = self.augmentation(paths, self.box, random)
        paths = self.encoder.place(paths, self.spatial_shape)
        walk = walk_paths(paths, self.spatial_shape, self.density, self.box)
        return RasterBatch(walk.coords, self.encoder.encode(walk), walk.dropped)
