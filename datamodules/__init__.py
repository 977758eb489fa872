"""Handwriting and pictures: sources, rasterising, data sets and samplers, and the data module.

All but `HandwritingDataModule` is plain numpy and torch; importing this package does not import
Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spcnn_lightning.datamodules.batch_dataset import BatchDataset, PreparedBatch
from spcnn_lightning.datamodules.characters import Characters, LabelledSamples, Subset
from spcnn_lightning.datamodules.dataset import HandwritingDataset, largest_features
from spcnn_lightning.datamodules.loader import EpochLoader
from spcnn_lightning.datamodules.pictures import (
    CIFAR10,
    CIFAR100,
    EMNIST,
    KMNIST,
    MNIST,
    ArrayPictures,
    CasiaHWDB,
    DatasetPictures,
    Digits,
    FashionMNIST,
    FewPictures,
    ImageFolder,
    PictureArray,
    PictureList,
    Pictures,
    PictureSource,
    PictureSubset,
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

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "ArrayPictures",
    "Assamese",
    "Augmentation",
    "Augmentations",
    "BatchDataset",
    "Bitmap",
    "CanvasJson",
    "CasiaHWDB",
    "CasiaOLHWDB",
    "Characters",
    "Curvature",
    "DatasetPictures",
    "Digits",
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
    "InkML",
    "KanjiVG",
    "LabelledSamples",
    "LogSignature",
    "Mirror",
    "Octogram",
    "Omniglot",
    "PenDigits8",
    "Pendigits",
    "PictureArray",
    "PictureList",
    "PictureSource",
    "PictureSubset",
    "Pictures",
    "PreparedBatch",
    "Pressure",
    "QuickDraw",
    "Rasteriser",
    "Shards",
    "Signature",
    "SimulatedHanzi",
    "SpaceTime",
    "Speed",
    "SpeedWarp",
    "StrokeDropping",
    "StrokeSet",
    "StrokeSource",
    "StrokeTemplates",
    "Strokes",
    "Subset",
    "Tegaki",
    "Tomoe",
    "UndirectedOctogram",
    "Unipen",
    "WriterFold",
    "largest_features",
    "split_validation",
]


def __getattr__(name: str) -> Any:
    if name == "HandwritingDataModule":
        from spcnn_lightning.datamodules.handwriting import HandwritingDataModule

        return HandwritingDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
