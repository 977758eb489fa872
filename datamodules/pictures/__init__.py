"""Data sets of pictures, one file each."""

from spcnn_lightning.datamodules.pictures.base import (
    PictureArray,
    PictureList,
    Pictures,
    PictureSource,
    PictureSubset,
)
from spcnn_lightning.datamodules.pictures.cifar import CIFAR10, CIFAR100
from spcnn_lightning.datamodules.pictures.digit_scenes import DigitScenes
from spcnn_lightning.datamodules.pictures.digits import Digits
from spcnn_lightning.datamodules.pictures.gnt import CasiaHWDB
from spcnn_lightning.datamodules.pictures.idx import EMNIST, KMNIST, MNIST, FashionMNIST
from spcnn_lightning.datamodules.pictures.image_folder import ImageFolder
from spcnn_lightning.datamodules.pictures.regions import Regions
from spcnn_lightning.datamodules.pictures.scenes import ArrayScenes, Scene, SceneSource
from spcnn_lightning.datamodules.pictures.superpixels import Superpixels
from spcnn_lightning.datamodules.pictures.views import FewPictures
from spcnn_lightning.datamodules.pictures.wrapped import ArrayPictures, DatasetPictures

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "EMNIST",
    "KMNIST",
    "MNIST",
    "ArrayPictures",
    "ArrayScenes",
    "CasiaHWDB",
    "DatasetPictures",
    "DigitScenes",
    "Digits",
    "FashionMNIST",
    "FewPictures",
    "ImageFolder",
    "PictureArray",
    "PictureList",
    "PictureSource",
    "PictureSubset",
    "Pictures",
    "Regions",
    "Scene",
    "SceneSource",
    "Superpixels",
]
