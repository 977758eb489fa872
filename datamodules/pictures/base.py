"""PictureSource: where pictures come from; and the sequences of pictures that it gives.

A picture is uint8 of shape (H, W, C): rows grow downwards, C is 1 for grey or 3 for red, green and
blue. Pictures of one sequence have the same number of channels, and any sizes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.datamodules.characters import Subset

Picture = NDArray[np.uint8]
"""Shape (H, W, C)."""


class Pictures(Protocol):
    """A sequence of labelled pictures, whether or not they are in memory."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, shape (B,)."""
        ...

    @property
    def writers(self) -> NDArray[np.int32] | None:
        """Who wrote or drew each picture, shape (B,), if known."""
        ...

    @property
    def channels(self) -> int:
        """C."""
        ...

    def __len__(self) -> int: ...

    def select(self, indices: ArrayLike) -> list[Picture]:
        """Return the pictures at ``indices``, in that order; repeats are allowed."""
        ...


MOST_COLOURS = 4
"""An axis of at most so many is taken for channels where the last axis is longer."""


class PictureArray:
    """Pictures of one size, in one array, which may be memory-mapped.

    Args:
        images: uint8, shape (B, H, W, C), or (B, H, W) for one channel.
        labels: Class numbers, shape (B,).
        writers: Who wrote each picture, shape (B,), if known.

    Raises:
        ValueError: If a shape or dtype does not fit, or a label is negative.
    """

    def __init__(
        self, images: NDArray[np.uint8], labels: ArrayLike, writers: ArrayLike | None = None
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape[1:]:
            raise ValueError(
                f"images are {images.dtype} of shape {images.shape}, expected uint8 of shape "
                "(B, H, W, C) or (B, H, W)"
            )
        self.images = images if images.ndim == 4 else images[..., None]
        _refuse_channels_first(self.images.shape)
        self.labels, self.writers = _checked(len(images), labels, writers)

    @property
    def channels(self) -> int:
        """C."""
        return int(self.images.shape[3])

    def __len__(self) -> int:
        return len(self.images)

    def select(self, indices: ArrayLike) -> list[Picture]:
        """Return copies of the pictures at ``indices``."""
        return list(self.images[np.asarray(indices, np.int64)])


class PictureList:
    """Pictures of any sizes, in memory.

    Args:
        pictures: At least one; each uint8, shape (H, W, C), with the same C.
        labels: Class numbers, shape (B,).
        writers: Who wrote each picture, shape (B,), if known.

    Raises:
        ValueError: If a shape or dtype does not fit, there is no picture, or a label is negative.
    """

    def __init__(
        self, pictures: Sequence[Picture], labels: ArrayLike, writers: ArrayLike | None = None
    ) -> None:
        if not len(pictures):
            raise ValueError("no picture, expected at least one")
        self.channels = pictures[0].shape[-1]
        for place, picture in enumerate(pictures):
            fits = picture.ndim == 3 and picture.shape[2] == self.channels and picture.size
            if picture.dtype != np.uint8 or not fits:
                raise ValueError(
                    f"picture {place} is {picture.dtype} of shape {picture.shape}, expected uint8 "
                    f"of shape (H, W, {self.channels}), as the first"
                )
            _refuse_channels_first(picture.shape)
        self.pictures = pictures
        self.labels, self.writers = _checked(len(pictures), labels, writers)

    def __len__(self) -> int:
        return len(self.pictures)

    def select(self, indices: ArrayLike) -> list[Picture]:
        """Return the pictures at ``indices``; they share memory with the list."""
        return [self.pictures[index] for index in np.asarray(indices, np.int64).tolist()]


def _refuse_channels_first(shape: tuple[int, ...]) -> None:
    """Raise ValueError for a shape (..., H, W, C) that looks like (..., C, H, W)."""
    if shape[-3] <= MOST_COLOURS < shape[-1]:
        raise ValueError(
            f"shape {shape} would be pictures {shape[-3]} high of {shape[-1]} channels: channels "
            "come last here, as np.moveaxis(pictures, -3, -1) puts them"
        )


class PictureSubset(Subset[list[Picture]]):
    """Some of the pictures of a sequence, as a view.

    Args:
        pictures: The sequence.
        indices: Which, in order, shape (B,).
    """

    def __init__(self, pictures: Pictures, indices: ArrayLike) -> None:
        super().__init__(pictures, indices)
        self._channels = pictures.channels

    @property
    def channels(self) -> int:
        """C."""
        return self._channels


class PictureSource(ABC):
    """A data set of pictures with a fixed split.

    A new data set is one subclass in one file: set ``class_names``, ``citation``, ``channels`` and
    ``background`` (as class attributes, in ``__init__`` or as properties if they depend on its
    arguments) and write ``train`` and ``test``. No picture is read before they are called.

    >>> class Bars(PictureSource):
    ...     class_names = ("bar",)
    ...     citation = "none"
    ...     channels = 1
    ...     background = 0.0
    ...     def train(self):
    ...         return PictureList([np.full((9, 2, 1), 255, np.uint8)], labels=[0])
    ...     def test(self):
    ...         return self.train()
    >>> Bars().num_classes, Bars().test().select([0])[0].shape
    (1, (9, 2, 1))
    """

    class_names: tuple[str, ...]
    """A name for each class, in the order of the labels."""

    citation: str
    """One line: authors, year, licence."""

    licence_text: str = ""
    """The licence in full, where it must travel with copies of the data."""

    channels: int
    """1 for grey, 3 for red, green, blue; one more if pictures have a mask."""

    background: float | tuple[float, ...]
    """What becomes zero, of 0..255, for all channels or for each: paper, or middle grey. Masks do
    not count as a channel here."""

    masked: bool = False
    """Whether the last channel is a mask, 255 inside and 0 outside: what lies outside does not
    count, and the mask decides what is active."""

    @property
    def num_classes(self) -> int:
        """Number of classes; labels are 0 .. num_classes - 1."""
        return len(self.class_names)

    def check(self) -> None:  # noqa: B027  # a source without files has nothing to check
        """Raise `DataError` if a file is missing, naming it; cheap."""

    @abstractmethod
    def train(self) -> Pictures:
        """Return the training part, from which validation data are taken too."""

    @abstractmethod
    def test(self) -> Pictures:
        """Return the official test part."""


def _checked(
    count: int, labels: ArrayLike, writers: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int32] | None]:
    """Return labels and writers as arrays, one of each for every picture."""
    numbers = _integers("labels", labels, count)
    if count and numbers.min() < 0:
        raise ValueError(f"label {numbers.min()} of picture {numbers.argmin()}, expected 0 or more")
    if writers is None:
        return numbers, None
    return numbers, _integers("writers", writers, count).astype(np.int32)


def _integers(name: str, values: ArrayLike, count: int) -> NDArray[np.int64]:
    array: NDArray[Any] = np.asarray(values)
    if array.shape != (count,) or (count and array.dtype.kind not in "iu"):
        raise ValueError(
            f"{name} are {array.dtype} of shape {array.shape}, expected integers of shape "
            f"({count},), one for each picture"
        )
    return array.astype(np.int64)
