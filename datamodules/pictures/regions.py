"""Regions: each region of a scene as a picture of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import Picture, PictureList, PictureSource
from spcnn_lightning.datamodules.pictures.scenes import Scene, SceneSource

View = Literal["region", "rectangle", "rectangle_and_mask"]


class Regions(PictureSource):
    """Each region of each scene as one picture, cut out along its bounding box.

    The middle of the box comes to where `Placement` says, as that of any picture. Regions of one
    scene are held out for validation together: the number of the scene stands as the writer.

    Args:
        scenes: Where the scenes come from.
        view: What a network sees. "region": the region alone, with everything outside of it at
            the ground state, and activity decided by the mask. "rectangle": the whole bounding
            box, with whatever of its neighbours lies in it. "rectangle_and_mask": the bounding
            box, and the mask as one more channel. The last two are for comparison.

    Raises:
        ValueError: If there is no such view.
        DataError: From `train` and `test`, if there is no region, or a scene has other channels
            than its source says.

    >>> from spcnn_lightning.datamodules.pictures.scenes import ArrayScenes
    >>> scene = Scene(np.full((4, 5), 9, np.uint8), np.eye(4, 5, dtype=int), [0])
    >>> (picture,) = Regions(ArrayScenes([scene], [scene])).train().select([0])
    >>> picture.shape, picture[0, :, 0].tolist(), picture[0, :, 1].tolist()
    ((4, 4, 2), [9, 9, 9, 9], [255, 0, 0, 0])
    """

    def __init__(self, scenes: SceneSource, view: View = "region") -> None:
        if view not in get_args(View):
            raise ValueError(f"view is {view!r}, expected one of {', '.join(get_args(View))}")
        self.scenes, self.view = scenes, view
        self.class_names, self.citation = scenes.class_names, scenes.citation
        self.licence_text = scenes.licence_text
        self.masked = view == "region"
        self.channels = scenes.channels + (view != "rectangle")
        self.background = scenes.background
        if view == "rectangle_and_mask":
            zero = np.broadcast_to(scenes.background, scenes.channels)
            self.background = (*zero.tolist(), 0.0)

    def check(self) -> None:
        """Check the files of the scenes."""
        self.scenes.check()

    def train(self) -> PictureList:
        """Return the regions of the training scenes, in memory."""
        return self._cut("training", self.scenes.train())

    def test(self) -> PictureList:
        """Return the regions of the test scenes, in memory."""
        return self._cut("test", self.scenes.test())

    def _cut(self, part: str, scenes: Iterable[Scene]) -> PictureList:
        pictures: list[Picture] = []
        labels, numbers = [], []
        for number, scene in enumerate(scenes):
            if scene.picture.shape[2] != self.scenes.channels:
                raise DataError(
                    f"{part} scene {number} of {type(self.scenes).__name__} has "
                    f"{scene.picture.shape[2]} channels, but the source says {self.scenes.channels}"
                )
            pictures += [
                self._look(scene, region, box) for region, box in enumerate(boxes(scene), 1)
            ]
            labels.append(scene.labels)
            numbers.append(np.full(len(scene.labels), number, np.int32))
        if not pictures:
            raise DataError(f"the {part} scenes of {type(self.scenes).__name__} have no region")
        return PictureList(pictures, np.concatenate(labels), np.concatenate(numbers))

    def _look(self, scene: Scene, region: int, box: tuple[slice, slice]) -> Picture:
        """Return what the view shows of a region."""
        picture = scene.picture[box]
        if self.view == "rectangle":
            return np.array(picture)  # or the whole scene would stay in memory
        mask = (scene.regions[box] == region).astype(np.uint8) * np.uint8(255)
        both: Picture = np.concatenate([picture, mask[..., None]], axis=2)
        return both


def boxes(scene: Scene) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the bounding box of each region."""
    places = np.nonzero(scene.regions)
    region, count = scene.regions[places] - 1, len(scene.labels)
    sides: list[list[slice]] = []
    for place, size in zip(places, scene.regions.shape, strict=True):
        first: NDArray[np.int64] = np.full(count, size)
        last: NDArray[np.int64] = np.zeros(count, np.int64)
        np.minimum.at(first, region, place)
        np.maximum.at(last, region, place + 1)
        sides.append([slice(*ends) for ends in zip(first.tolist(), last.tolist(), strict=True)])
    return list(zip(*sides, strict=True))
