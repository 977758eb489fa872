"""Pictures that a program has at hand: NumPy arrays, or data sets of torchvision's kind."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Dataset

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import (
    Picture,
    PictureArray,
    PictureList,
    PictureSource,
)
from spcnn_lightning.datamodules.pictures.pillow_images import picture_of
from spcnn_lightning.datamodules.sources.base import PARTS


class ArrayPictures(PictureSource):
    """Pictures in arrays.

    Args:
        train_images: uint8, shape (B, H, W) or (B, H, W, C), in memory or memory-mapped; or a list
            of pictures of any sizes, each (H, W) or (H, W, C).
        train_labels: Class numbers, shape (B,).
        test_images: As ``train_images``.
        test_labels: As ``train_labels``.
        class_names: A name for each class. None: the numbers up to the largest training label.
        background: 0..255: what is to be zero for the network.
        train_writers: Who wrote or drew each training picture, shape (B,), if known.
        test_writers: The same for the test.

    Raises:
        ValueError: If a shape or dtype does not fit, or a label has no name.
    """

    citation = "the user's own pictures"

    def __init__(
        self,
        train_images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        train_labels: ArrayLike,
        test_images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        test_labels: ArrayLike,
        class_names: Sequence[str] | None = None,
        background: float | tuple[float, ...] = 0.0,
        train_writers: ArrayLike | None = None,
        test_writers: ArrayLike | None = None,
    ) -> None:
        self._train = _in_memory(train_images, train_labels, train_writers)
        self._test = _in_memory(test_images, test_labels, test_writers)
        self.channels, self.background = self._train.channels, background
        if self._test.channels != self.channels:
            raise ValueError(
                f"test pictures have {self._test.channels} channels, training ones {self.channels}"
            )
        self.class_names = _names(class_names, self._train.labels)
        for part in (self._train, self._test):
            _require_classes(part.labels, self.class_names)

    def train(self) -> PictureArray | PictureList:
        """Return the training part."""
        return self._train

    def test(self) -> PictureArray | PictureList:
        """Return the test part."""
        return self._test


class DatasetPictures(PictureSource):
    """Data sets whose items are (picture, label), as those of torchvision are.

    A picture is an image of Pillow; an array, uint8 of shape (H, W) or (H, W, C); or a tensor, (H,
    W) or (C, H, W), uint8 or floating-point from 0 to 1. All items are read once, in their order,
    and kept in memory: random transforms belong to the augmentation of the data module.

    Args:
        train: The training part, with a length and items by number.
        test: The test part.
        class_names: A name for each class. None: the attribute ``classes`` of ``train``, or the
            numbers up to the largest training label.
        channels: 1 or 3; images of Pillow are converted. None: as the first training picture.
        background: 0..255: what is to be zero for the network, and shows through where a picture is
            transparent.

    Raises:
        DataError: From ``train``, ``test`` or the properties: if an item is something else.
    """

    citation = "the user's own data set"
    background: float

    def __init__(
        self,
        train: Dataset[Any],
        test: Dataset[Any],
        class_names: Sequence[str] | None = None,
        channels: int | None = None,
        background: float = 0.0,
    ) -> None:
        self._datasets = dict(zip(PARTS, (train, test), strict=True))
        self._names = getattr(train, "classes", None) if class_names is None else class_names
        self._channels = channels
        self.background = background

    @cached_property
    def channels(self) -> int:  # type: ignore[override]
        """C."""
        if self._channels is not None:
            return self._channels
        picture, _ = _item(self._datasets["train"], 0, "train")
        if hasattr(picture, "convert"):
            return 1 if picture.mode in ("1", "L", "LA", "F") or picture.mode[0] == "I" else 3
        return int(_as_picture(picture, 0, 0.0, "train[0]").shape[2])

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A name for each class."""
        return _names(self._names, self.train().labels if self._names is None else None)

    def train(self) -> PictureList:
        """Return the training part."""
        return self._train

    def test(self) -> PictureList:
        """Return the test part."""
        return self._read("test")

    @cached_property
    def _train(self) -> PictureList:
        return self._read("train")

    def _read(self, part: str) -> PictureList:
        dataset = self._datasets[part]
        pictures, labels = [], []
        for index in range(_length(dataset, part)):
            picture, label = _item(dataset, index, part)
            where = f"{part}[{index}]"
            pictures.append(_as_picture(picture, self.channels, self.background, where))
            labels.append(_as_label(label, where))
        try:
            found = PictureList(pictures, np.array(labels, np.int64))
            if part == "test" or self._names is not None:
                _require_classes(found.labels, self.class_names)
        except ValueError as error:
            raise DataError(f"{part}: {error}") from error
        return found


def _in_memory(
    images: Any, labels: ArrayLike, writers: ArrayLike | None
) -> PictureArray | PictureList:
    if isinstance(images, np.ndarray):
        return PictureArray(images, labels, writers)
    pictures = [np.asarray(image) for image in images]
    deep = [image[..., None] if image.ndim == 2 else image for image in pictures]
    return PictureList(deep, labels, writers)


def _names(names: Sequence[str] | None, labels: NDArray[np.int64] | None) -> tuple[str, ...]:
    """Return the names, or numbers for the labels that need one."""
    if names is not None:
        return tuple(names)
    assert labels is not None
    return tuple(map(str, range(int(labels.max(initial=-1)) + 1)))


def _require_classes(labels: NDArray[np.int64], names: tuple[str, ...]) -> None:
    if len(labels) and labels.max() >= len(names):
        raise ValueError(
            f"label {labels.max()} of picture {labels.argmax()}, expected 0 to {len(names) - 1} "
            f"for {len(names)} classes"
        )


def _length(dataset: Any, part: str) -> int:
    try:
        return len(dataset)
    except TypeError as error:
        raise DataError(f"{part}: {error}: expected a data set with a length") from error


def _item(dataset: Any, index: int, part: str) -> tuple[Any, Any]:
    item = dataset[index]
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"{part}[{index}] is a {type(item).__name__}, expected (picture, label)")
    return item[0], item[1]


def _as_label(label: Any, where: str) -> int:
    try:
        return operator.index(label)
    except TypeError as error:
        raise DataError(f"{where}: label of type {type(label).__name__}, expected int") from error


def _as_picture(value: Any, channels: int, background: float, where: str) -> Picture:
    """Return a picture of any kind as uint8 (H, W, C); ``channels`` 0 means as it is."""
    if hasattr(value, "convert"):
        try:
            return picture_of(value, channels, background)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
    array = _tensor_as_array(value, where) if torch.is_tensor(value) else value
    if not isinstance(array, np.ndarray):
        kind = type(value).__name__
        raise DataError(f"{where}: a picture of type {kind}, expected an image, array or tensor")
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or array.ndim != 3 or (channels and array.shape[2] != channels):
        raise DataError(
            f"{where}: {array.dtype} of shape {array.shape}, expected uint8 (H, W, "
            f"{channels or 'C'})"
        )
    return array


def _tensor_as_array(tensor: torch.Tensor, where: str) -> NDArray[Any]:
    """Return (C, H, W) as (H, W, C), and 0 to 1 as 0 to 255."""
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        if not bool(((tensor >= 0) & (tensor <= 1)).all()):
            raise DataError(
                f"{where}: a floating-point tensor with values beyond 0 to 1: leave transforms "
                "that normalise out"
            )
        tensor = (tensor * 255).round().to(torch.uint8)
    array: NDArray[Any] = tensor.numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array
