"""From pictures to the active sites of a field: scaling, sparsifying, distorting, placing."""

from spcnn_lightning.datamodules.padding.colour import ColourShift
from spcnn_lightning.datamodules.padding.padder import PaddedBatch, Padder
from spcnn_lightning.datamodules.padding.picture_augmentation import PictureAugmentation
from spcnn_lightning.datamodules.padding.picture_batch import PictureBatch, Scaling
from spcnn_lightning.datamodules.padding.placement import Placement
from spcnn_lightning.datamodules.padding.sparsifier import (
    BackgroundSubtraction,
    Edges,
    Sparsifier,
    Threshold,
)

__all__ = [
    "BackgroundSubtraction",
    "ColourShift",
    "Edges",
    "PaddedBatch",
    "Padder",
    "PictureAugmentation",
    "PictureBatch",
    "Placement",
    "Scaling",
    "Sparsifier",
    "Threshold",
]
