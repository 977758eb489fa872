"""Data: strokes and pictures, their sources, data sets and samplers, and the data modules.

All but the data modules is plain numpy and torch; importing this package does not import
Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from spcnn_lightning.datamodules.batch_dataset import BatchDataset, PreparedBatch
from spcnn_lightning.datamodules.characters import Characters, LabelledSamples, Subset
from spcnn_lightning.datamodules.dataset import HandwritingDataset, largest_features
from spcnn_lightning.datamodules.loader import EpochLoader
from spcnn_lightning.datamodules.padding import (
    BackgroundSubtraction,
    ColourShift,
    Edges,
    PaddedBatch,
    Padder,
    PictureAugmentation,
    PictureBatch,
    Scaling,
    Sparsifier,
    Threshold,
)
from spcnn_lightning.datamodules.picture_dataset import PictureDataset
from spcnn_lightning.datamodules.pictures import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    KMNIST,
    MNIST,
    ArrayPictures,
    ArrayScenes,
    CasiaHWDB,
    DatasetPictures,
    Digits,
    DigitScenes,
    FashionMNIST,
    FewPictures,
    ImageFolder,
    PictureArray,
    PictureList,
    Pictures,
    PictureSource,
    PictureSubset,
    Regions,
    Scene,
    SceneSource,
    Superpixels,
)
from spcnn_lightning.datamodules.raster import (
    Augmentation,
    Augmentations,
    Bitmap,
    Curvature,
    Elastic,
    Encoder,
    Encodings,
    HandwritingAugmentation,
    LogSignature,
    Mirror,
    Octogram,
    Pressure,
    Rasteriser,
    Signature,
    SpaceTime,
    Speed,
    SpeedWarp,
    StrokeDropping,
    UndirectedOctogram,
)
from spcnn_lightning.datamodules.samplers import EpochBatchSampler, EpochSampler
from spcnn_lightning.datamodules.site_batches import SiteBatchSampler, count_sites
from spcnn_lightning.datamodules.sources import (
    Assamese,
    CanvasJson,
    CasiaOLHWDB,
    FewLabels,
    HanziMedians,
    InkML,
    KanjiVG,
    Omniglot,
    Pendigits,
    PenDigits8,
    QuickDraw,
    Shards,
    SimulatedHanzi,
    StreamedShards,
    StrokeSource,
    StrokeTemplates,
    Tegaki,
    Tomoe,
    Unipen,
    WriterFold,
)
from spcnn_lightning.datamodules.splits import split_validation
from spcnn_lightning.datamodules.strokes import Strokes, StrokeSet

if TYPE_CHECKING:
    from spcnn_lightning.datamodules.handwriting import HandwritingDataModule
    from spcnn_lightning.datamodules.image_padding import ImagePaddingDataModule

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "ArrayPictures",
    "ArrayScenes",
    "Assamese",
    "Augmentation",
    "Augmentations",
    "BackgroundSubtraction",
    "BatchDataset",
    "Bitmap",
    "CanvasJson",
    "CasiaHWDB",
    "CasiaOLHWDB",
    "Characters",
    "ColourShift",
    "Curvature",
    "DatasetPictures",
    "DigitScenes",
    "Digits",
    "Edges",
    "Elastic",
    "Encoder",
    "Encodings",
    "EpochBatchSampler",
    "EpochLoader",
    "EpochSampler",
    "FashionMNIST",
    "FewLabels",
    "FewPictures",
    "HandwritingAugmentation",
    "HandwritingDataModule",
    "HandwritingDataset",
    "HanziMedians",
    "ImageFolder",
    "ImagePaddingDataModule",
    "InkML",
    "KanjiVG",
    "LabelledSamples",
    "LogSignature",
    "Mirror",
    "Octogram",
    "Omniglot",
    "PaddedBatch",
    "Padder",
    "PenDigits8",
    "Pendigits",
    "PictureArray",
    "PictureAugmentation",
    "PictureBatch",
    "PictureDataset",
    "PictureList",
    "PictureSource",
    "PictureSubset",
    "Pictures",
    "PreparedBatch",
    "Pressure",
    "QuickDraw",
    "Rasteriser",
    "Regions",
    "Scaling",
    "Scene",
    "SceneSource",
    "Shards",
    "Signature",
    "SimulatedHanzi",
    "SiteBatchSampler",
    "SpaceTime",
    "Sparsifier",
    "Speed",
    "SpeedWarp",
    "StreamedShards",
    "StrokeDropping",
    "StrokeSet",
    "StrokeSource",
    "StrokeTemplates",
    "Strokes",
    "Subset",
    "Superpixels",
    "Tegaki",
    "Threshold",
    "Tomoe",
    "UndirectedOctogram",
    "Unipen",
    "WriterFold",
    "count_sites",
    "largest_features",
    "split_validation",
]


_DATA_MODULES = {
    "HandwritingDataModule": "handwriting",
    "ImagePaddingDataModule": "image_padding",
}


def __getattr__(name: str) -> Any:
    if name in _DATA_MODULES:
        module = import_module(f"{__name__}.{_DATA_MODULES[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
