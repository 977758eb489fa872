"""Superpixels: scenes that are cut anew, where their colours change."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import MissingExtraError
from spcnn_lightning.datamodules.pictures.base import Picture
from spcnn_lightning.datamodules.pictures.scenes import Scene, SceneSource


class Superpixels(SceneSource):
    """Scenes cut into compact regions of similar colour, by SLIC.

    A superpixel has the class that most of its pixels have in the scene as it was; where most
    belong to no region, it is left out. A label map, which has a class for each pixel, is a scene
    with a region for each class: ``Scene.from_mask(picture, classes + 1, {c + 1: c for c in
    np.unique(classes)})``.

    Needs scikit-image: ``pip install "spcnn-lightning[pictures]"``.

    Args:
        scenes: Where the scenes come from.
        segments: About how many superpixels a picture is cut into.
        compactness: Weight of distance against colour, with lightness from 0 to 100; higher makes
            them squarer.
        sigma: Width of the smoothing before, in pixels.

    Raises:
        ValueError: If an argument is out of range.
        MissingExtraError: From `check`, or when scenes are cut, if scikit-image is not installed.

    Source:
        R. Achanta, A. Shaji, K. Smith, A. Lucchi, P. Fua, S. Süsstrunk, SLIC superpixels compared
        to state-of-the-art superpixel methods, 2012; scikit-image's implementation.
    """

    def __init__(
        self,
        scenes: SceneSource,
        segments: int = 100,
        compactness: float = 10.0,
        sigma: float = 0.0,
    ) -> None:
        if segments < 1:
            raise ValueError(f"segments is {segments}: give at least 1")
        if not 0 < compactness < math.inf:
            raise ValueError(f"compactness is {compactness}: give a finite, positive weight")
        if not 0 <= sigma < math.inf:
            raise ValueError(f"sigma is {sigma}: give a finite width of at least 0")
        self.scenes = scenes
        self.segments, self.compactness, self.sigma = segments, compactness, sigma
        self.class_names, self.citation = scenes.class_names, scenes.citation
        self.licence_text = scenes.licence_text
        self.channels, self.background = scenes.channels, scenes.background

    def check(self) -> None:
        """Check that scikit-image is installed, and the files of the scenes."""
        _segmentation()
        self.scenes.check()

    def train(self) -> Iterator[Scene]:
        """Return the training scenes, cut one by one."""
        return self._cut(self.scenes.train())

    def test(self) -> Iterator[Scene]:
        """Return the test scenes, cut one by one."""
        return self._cut(self.scenes.test())

    def _cut(self, scenes: Iterable[Scene]) -> Iterator[Scene]:
        for scene in scenes:
            yield relabelled(scene, self._segments(scene.picture))

    def _segments(self, picture: Picture) -> NDArray[np.int64]:
        colour = picture.shape[2] == 3
        found: NDArray[np.int64] = _segmentation().slic(
            picture,
            self.segments,
            # Colours become lightness 0 to 100 and two hues; greys stay between 0 and 1.
            self.compactness if colour else self.compactness / 100,
            sigma=self.sigma,
            start_label=1,
            convert2lab=colour,
            channel_axis=-1,
        )
        return found


def relabelled(scene: Scene, segments: NDArray[np.int64]) -> Scene:
    """Return a scene cut into other regions, each with the class of most of its pixels.

    Segments with more pixels of no region than of any class are left out. Of classes with equally
    many pixels the first is taken.

    Args:
        scene: Has the classes.
        segments: Integers from 0, shape (H, W): the number of each pixel's segment.
    """
    classes = np.concatenate([[0], scene.labels + 1])[scene.regions]  # 0: none
    width = int(classes.max(initial=0)) + 1
    votes = np.bincount((segments * width + classes).ravel(), minlength=width)
    votes = np.pad(votes, (0, -len(votes) % width)).reshape(-1, width)
    winner = votes.argmax(1)
    kept = winner > 0
    numbers = np.where(kept, np.cumsum(kept), 0)
    return Scene(scene.picture, numbers[segments], winner[kept] - 1)


def _segmentation() -> Any:
    try:
        return importlib.import_module("skimage.segmentation")
    except ImportError as error:
        raise MissingExtraError(
            'Superpixels needs scikit-image: pip install "spcnn-lightning[pictures]"'
        ) from error
