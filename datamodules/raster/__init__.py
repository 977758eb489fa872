"""From pen strokes to sites and features: pure functions of numpy arrays, without torch."""

from spcnn_lightning.datamodules.raster.augmentation import Augmentation, HandwritingAugmentation
from spcnn_lightning.datamodules.raster.encoders import Bitmap, Encoder, Octogram
from spcnn_lightning.datamodules.raster.paths import PenPaths, normalise
from spcnn_lightning.datamodules.raster.rasterise import RasterBatch, Rasteriser
from spcnn_lightning.datamodules.raster.walk import Walk, walk_paths

__all__ = [
    "Augmentation",
    "Bitmap",
    "Encoder",
    "HandwritingAugmentation",
    "Octogram",
    "PenPaths",
    "RasterBatch",
    "Rasteriser",
    "Walk",
    "normalise",
    "walk_paths",
]
