"""Scene: a picture cut into labelled regions; SceneSource: where scenes come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import Picture


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture, and which of its pixels belong to which region.

    Regions may have any form, holes and several pieces; no pixel belongs to two.

    Args:
        picture: uint8, shape (H, W, C), or (H, W) for one channel.
        regions: Integers, shape (H, W): 0 where there is no region, k for region k of 1 .. K. A
            bool mask is one region.
        labels: Class numbers, shape (K,): that of region k stands at place k - 1.

    Raises:
        DataError: If a shape or dtype does not fit, a region has no label, or no pixel.
    """

    picture: Picture
    regions: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        picture = np.asarray(self.picture)
        picture = picture[..., None] if picture.ndim == 2 else picture
        if picture.dtype != np.uint8 or picture.ndim != 3:
            raise DataError(
                f"the picture is {picture.dtype} of shape {picture.shape}, expected uint8 of shape "
                "(H, W, C) or (H, W)"
            )
        regions = _integers("regions", self.regions, picture.shape[:2], "pixel of the picture")
        labels = _integers("labels", self.labels, np.shape(self.labels)[:1], "region")
        if labels.size and labels.min() < 0:
            raise DataError(f"region {labels.argmin() + 1} has label {labels.min()}, expected >= 0")
        for number in (regions.min(initial=0), regions.max(initial=0)):
            if not 0 <= number <= len(labels):
                raise DataError(
                    f"region {number} has no label: labels are given for regions 1 to "
                    f"{len(labels)}, and 0 stands for no region"
                )
        pixels = np.bincount(regions.ravel(), minlength=len(labels) + 1)[1:]
        if not pixels.all():
            raise DataError(f"region {pixels.argmin() + 1} has a label and no pixel: leave it out")
        for name, array in (("picture", picture), ("regions", regions), ("labels", labels)):
            object.__setattr__(self, name, array)  # frozen for everybody else

    @staticmethod
    def from_mask(picture: Picture, mask: NDArray[Any], classes: Mapping[int, int]) -> Scene:
        """Return a scene with regions of any numbers, and their classes.

        Args:
            picture: uint8, shape (H, W, C) or (H, W).
            mask: Integers, shape (H, W): the number of the region that a pixel belongs to, or 0
                for none.
            classes: The class number of each region of the mask.

        Raises:
            DataError: As the class does; also if a region of the mask has no class, or a class no
                region.

        >>> mask = np.array([[7, 7, 0], [9, 7, 0]])
        >>> scene = Scene.from_mask(np.zeros((2, 3), np.uint8), mask, {7: 4, 9: 0})
        >>> scene.regions.tolist(), scene.labels.tolist()
        ([[1, 1, 0], [2, 1, 0]], [4, 0])
        """
        mask = _integers("mask numbers", mask, np.shape(picture)[:2], "pixel of the picture")
        found, numbers = set(np.unique(mask).tolist()) - {0}, sorted(classes)
        if unknown := found - set(numbers):
            raise DataError(
                f"region {min(unknown)} of the mask has no class: classes are given for "
                f"{numbers[:20]}, and 0 stands for no region"
            )
        if missing := set(numbers) - found:
            raise DataError(f"region {min(missing)} has a class and no pixel: leave it out")
        regions = np.where(mask == 0, 0, np.searchsorted(numbers, mask) + 1)
        return Scene(picture, regions, np.array([classes[n] for n in numbers], np.int64))


class SceneSource(ABC):
    """A data set of scenes with a fixed split; `Regions` makes a source of pictures of it.

    A new data set is one sub-class in one file, as for `PictureSource`, with the same attributes.

    >>> class Halves(SceneSource):
    ...     class_names = ("left", "right")
    ...     citation = "none"
    ...     channels = 1
    ...     background = 0.0
    ...     def train(self):
    ...         return [Scene(np.full((3, 4), 9, np.uint8), np.array([[1, 1, 1, 2]] * 3), [0, 1])]
    ...     def test(self):
    ...         return self.train()
    >>> len(list(Halves().train()))
    1
    """

    class_names: tuple[str, ...]
    """A name for each class of regions, in the order of the labels."""

    citation: str
    """One line: authors, year, licence."""

    licence_text: str = ""
    """The licence in full, where it must travel with copies of the data."""

    channels: int
    """1 for grey, 3 for red, green, blue."""

    background: float | tuple[float, ...]
    """What becomes zero, of 0..255, for all channels or for each."""

    def check(self) -> None:  # noqa: B027  # a source without files has nothing to check
        """Raise `DataError` if a file is missing, naming it; cheap."""

    @abstractmethod
    def train(self) -> Iterable[Scene]:
        """Return the training part, from which validation data are taken too."""

    @abstractmethod
    def test(self) -> Iterable[Scene]:
        """Return the test part."""


class ArrayScenes(SceneSource):
    """Scenes that a program has at hand.

    Args:
        train: The training part.
        test: The test part.
        class_names: A name for each class. None: the numbers up to the largest training label.
        background: 0..255: what is to be zero for the network.

    Raises:
        DataError: If there is no training scene, or pictures differ in their channels.
    """

    citation = "the user's own pictures"

    def __init__(
        self,
        train: Sequence[Scene],
        test: Sequence[Scene],
        class_names: Sequence[str] | None = None,
        background: float | tuple[float, ...] = 0.0,
    ) -> None:
        if not train:
            raise DataError("there is no training scene")
        self._train, self._test = train, test
        self.channels, self.background = train[0].picture.shape[2], background
        for name, part in (("training", train), ("test", test)):
            for number, scene in enumerate(part):
                if scene.picture.shape[2] != self.channels:
                    raise DataError(
                        f"{name} scene {number} has {scene.picture.shape[2]} channels, expected "
                        f"{self.channels}, as the first training scene"
                    )
        largest = max((int(scene.labels.max(initial=-1)) for scene in train), default=-1)
        names = map(str, range(largest + 1)) if class_names is None else class_names
        self.class_names = tuple(names)

    def train(self) -> Sequence[Scene]:
        """Return the training part."""
        return self._train

    def test(self) -> Sequence[Scene]:
        """Return the test part."""
        return self._test


def _integers(name: str, values: ArrayLike, shape: tuple[int, ...], each: str) -> NDArray[np.int64]:
    array: NDArray[Any] = np.asarray(values)
    if array.shape != shape or (array.size and array.dtype.kind not in "biu"):
        raise DataError(
            f"{name} are {array.dtype} of shape {array.shape}, expected integers of shape "
            f"{shape}, one for each {each}"
        )
    return array.astype(np.int64)
