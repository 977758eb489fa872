"""DigitScenes: generated scenes of digits that touch, cover and interlock."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.affine import random_maps
from spcnn_lightning.datamodules.padding.picture_batch import PictureBatch, Scaling
from spcnn_lightning.datamodules.padding.warp import warp
from spcnn_lightning.datamodules.pictures.base import Picture, Pictures, PictureSource
from spcnn_lightning.datamodules.pictures.digits import Digits
from spcnn_lightning.datamodules.pictures.scene_paper import ScenePaper
from spcnn_lightning.datamodules.pictures.scenes import Scene, SceneSource
from spcnn_lightning.datamodules.randomness import SampleRandom

INK = 64
"""A pixel at least so far from the background, of 255, belongs to its digit; others are lost."""
_DRAWS = 8  # of each digit: which one, four for its map, partner, direction, cover


class DigitScenes(SceneSource):
    """Scenes of real digits, pushed together until they touch; each digit is a region.

    The first digit stands in the middle. Each other one begins on the middle of one of those that
    are there, and is moved away in a random direction until it covers of none more than it may. So
    some only touch, some reach into one another, some lie on top. Where digits overlap, a pixel
    belongs to the one on top. All ink belongs to a region, and ink is as bright in any: only masks
    tell whose it is.

    Training scenes are made of training digits, test scenes of test digits. A scene is a function
    of the seed, the part and its number alone.

    Args:
        digits: A source of grey pictures, such as `MNIST`. None: `Digits`, which needs no file.
        scenes: Number of training scenes.
        test_scenes: Number of test scenes.
        fewest: Digits of a scene, at least. Where there is no room, it has fewer.
        most: Digits of a scene, at most.
        cover: Most of its ink that a digit may lose to later ones, as a share. Half of them cover
            nothing; the others have a limit that is uniform from 0 to this.
        size: Height and width of a scene, in sides of its largest digit's picture.
        stretch: Digits are stretched, and turned or slanted, as by `PictureAugmentation`.
        rotate: In radians.
        slant: In pixels per pixel.
        seed: Decides everything.

    Raises:
        ValueError: If an argument is out of range.
        DataError: From `train` and `test`, if the source's pictures are not grey.
    """

    def __init__(
        self,
        digits: PictureSource | None = None,
        scenes: int = 2000,
        test_scenes: int = 1000,
        fewest: int = 3,
        most: int = 7,
        cover: float = 0.3,
        size: float = 3.0,
        stretch: float = 0.25,
        rotate: float = 0.5,
        slant: float = 0.3,
        seed: int = 0,
    ) -> None:
        for name, count in (("scenes", scenes), ("test_scenes", test_scenes), ("fewest", fewest)):
            if count < 1:
                raise ValueError(f"{name} is {count}: give at least 1")
        if most < fewest:
            raise ValueError(f"most is {most}: give at least fewest, {fewest}")
        if not 0 <= cover < 1 or not 0 <= stretch < 1:
            raise ValueError(f"cover is {cover}, stretch {stretch}: give shares from 0 to below 1")
        for name, amount in (("size", size), ("rotate", rotate), ("slant", slant)):
            if not 0 <= amount < math.inf:
                raise ValueError(f"{name} is {amount}: give a finite amount of at least 0")
        if size < 2:
            raise ValueError(f"size is {size}: give at least 2, or a digit may not fit")
        self.digits = Digits() if digits is None else digits
        self.scenes, self.test_scenes = scenes, test_scenes
        self.fewest, self.most, self.cover, self.size = fewest, most, cover, size
        self.stretch, self.rotate, self.slant, self.seed = stretch, rotate, slant, seed
        self.class_names, self.citation = self.digits.class_names, self.digits.citation
        self.licence_text = self.digits.licence_text
        self.channels, self.background = 1, self.digits.background

    def check(self) -> None:
        """Check the files of the digits."""
        self.digits.check()

    def train(self) -> Iterator[Scene]:
        """Return the training scenes, made one by one."""
        return self._make(self.digits.train(), range(self.scenes), part=0)

    def test(self) -> Iterator[Scene]:
        """Return the test scenes, made one by one."""
        return self._make(self.digits.test(), range(self.test_scenes), part=1)

    def _make(self, digits: Pictures, numbers: range, part: int) -> Iterator[Scene]:
        if self.digits.channels != 1 or self.digits.masked or not len(digits):
            raise DataError(
                f"DigitScenes needs grey pictures; {type(self.digits).__name__} has "
                f"{len(digits)} with {self.digits.channels} channels"
            )
        for number in numbers:
            random = SampleRandom(self.seed, np.array([part]), np.array([number]))
            yield self._scene(digits, random.uniform_table(1 + _DRAWS * self.most)[0])

    def _scene(self, digits: Pictures, draws: NDArray[np.float64]) -> Scene:
        count = self.fewest + int(draws[0] * (self.most - self.fewest + 1))
        each = draws[1:].reshape(self.most, _DRAWS)[:count]
        chosen = (each[:, 0] * len(digits)).astype(np.int64)
        pictures = digits.select(chosen)
        paper = ScenePaper(int(self.size * max(max(picture.shape) for picture in pictures)))
        labels = []
        for drawing, label, (partner, direction, cover) in zip(
            self._drawings(pictures, each[:, 1:5]),
            digits.labels[chosen].tolist(),
            each[:, 5:].tolist(),
            strict=True,
        ):
            limit = self.cover * max(0.0, 2 * cover - 1)
            if paper.put(drawing, partner, 2 * math.pi * direction, limit):
                labels.append(label)
        zero = np.asarray(self.background, np.float32)
        values = zero + paper.values * np.maximum(zero, 255 - zero)
        return Scene(np.rint(values).astype(np.uint8), paper.regions, np.array(labels))

    def _drawings(
        self, pictures: list[Picture], draws: NDArray[np.float64]
    ) -> list[NDArray[np.float32]]:
        """Return the distorted ink of each picture in its bounding box; the background is 0."""
        batch = PictureBatch.of(pictures, Scaling(self.background))
        maps = random_maps(draws.T, self.stretch, self.rotate, self.slant)
        side = math.ceil(np.abs(maps).sum(2).max() * batch.sizes.max()) + 2  # holds all of them
        found = warp(batch, side // 2 - batch.sizes // 2, (side, side), maps)
        fields = torch.zeros(len(pictures), side, side)
        fields[found.coords.long().unbind(1)] = found.values[0]
        fields[fields.abs() < INK / 255] = 0
        drawings = []
        for field in fields.numpy():
            rows, columns = (np.flatnonzero(field.any(axis)) for axis in (1, 0))
            ends = [slice(*(x.min(), x.max() + 1)) if len(x) else slice(0) for x in (rows, columns)]
            drawings.append(field[tuple(ends)])
        return drawings
