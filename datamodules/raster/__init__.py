"""From pen strokes to sites and features: pure functions of numpy arrays, without torch."""

from spcnn_lightning.datamodules.raster.augmentation import (
    Augmentation,
    Augmentations,
    HandwritingAugmentation,
)
from spcnn_lightning.datamodules.raster.directions import Octogram, UndirectedOctogram
from spcnn_lightning.datamodules.raster.distortions import (
    Elastic,
    Mirror,
    SpeedWarp,
    StrokeDropping,
)
from spcnn_lightning.datamodules.raster.encoders import Bitmap, Encoder, Encodings
from spcnn_lightning.datamodules.raster.motion import Curvature, Pressure, Speed
from spcnn_lightning.datamodules.raster.paths import PenPaths, normalise
from spcnn_lightning.datamodules.raster.rasterise import RasterBatch, Rasteriser
from spcnn_lightning.datamodules.raster.signatures import LogSignature, Signature
from spcnn_lightning.datamodules.raster.space_time import SpaceTime
from spcnn_lightning.datamodules.raster.walk import Walk, walk_paths

__all__ = [
    "Augmentation",
    "Augmentations",
    "Bitmap",
    "Curvature",
    "Elastic",
    "Encoder",
    "Encodings",
    "HandwritingAugmentation",
    "LogSignature",
    "Mirror",
    "Octogram",
    "PenPaths",
    "Pressure",
    "RasterBatch",
    "Rasteriser",
    "Signature",
    "SpaceTime",
    "Speed",
    "SpeedWarp",
    "StrokeDropping",
    "UndirectedOctogram",
    "Walk",
    "normalise",
    "walk_paths",
]
