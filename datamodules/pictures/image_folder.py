"""ImageFolder: picture files of any size, one folder for each class."""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import Picture, PictureSource
from spcnn_lightning.datamodules.pictures.pillow_images import (
    ENDINGS,
    import_pillow,
    read_picture,
)
from spcnn_lightning.datamodules.sources.base import PARTS

OTHER_ENDINGS = (".avif", ".heic", ".heif", ".jp2", ".jxl", ".psd", ".svg", ".dng", ".cr2", ".nef")
"""Of picture files that are not read."""


class PictureFiles:
    """Pictures that stay in files of their own until they are asked for.

    Args:
        paths: The files.
        labels: Class numbers, shape (B,).
        channels: 1 for grey, 3 for colour; files of the other kind are converted.
        background: 0..255: shows through where a picture is transparent.

    Attributes:
        names: The files' names, which errors and tables of predictions show.
    """

    writers = None

    def __init__(
        self, paths: list[Path], labels: NDArray[np.int64], channels: int, background: float
    ) -> None:
        self.paths, self.labels = paths, labels
        self.names = [str(path) for path in paths]
        self.channels, self.background = channels, background

    def __len__(self) -> int:
        return len(self.paths)

    def select(self, indices: ArrayLike) -> list[Picture]:
        """Read the pictures at ``indices``.

        Raises:
            DataError: If a file is damaged.
        """
        chosen = np.asarray(indices, np.int64).tolist()
        return [read_picture(self.paths[i], self.channels, self.background) for i in chosen]


class ImageFolder(PictureSource):
    """``root/train/<class>/*.png`` and ``root/test/<class>/*.png``: grey, colour, transparent.

    BMP, JPEG, PGM, PPM, PNG, TIFF and WebP are read when a picture is needed, so that a data set
    may be larger than memory. Folders inside a class belong to it.

    Args:
        root: The folder that holds both parts.
        train: Folder of the training part in it.
        test: The same for the test part, whose classes must be among those of training.
        channels: 1 turns all pictures to grey, 3 to red, green and blue.
        background: 0..255: what is to be zero for the network, and shows through where a picture is
            transparent: 255 for paper, 128 for photos as in the paper.

    Raises:
        ValueError: If ``channels`` or ``background`` is none of these.
        MissingExtraError: From `check` or when pictures are read, if Pillow is not installed.
    """

    citation = "the user's own files"
    background: float

    def __init__(
        self,
        root: str | Path,
        train: str = "train",
        test: str = "test",
        channels: Literal[1, 3] = 3,
        background: float = 128.0,
    ) -> None:
        if channels not in (1, 3) or not 0 <= background <= 255:
            raise ValueError(
                f"channels is {channels} and background {background}, expected 1 or 3, and 0 to 255"
            )
        self.root, self.folders = Path(root), dict(zip(PARTS, (train, test), strict=True))
        self.channels, self.background = channels, float(background)

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the folders of the training part, sorted."""
        return tuple(folder.name for folder in self._class_folders("train"))

    def check(self) -> None:
        """Raise `DataError` if there are no folders of classes in the training part."""
        import_pillow()
        self._class_folders("train")

    def train(self) -> PictureFiles:
        """Return the training part."""
        return self._files("train")

    def test(self) -> PictureFiles:
        """Return the test part."""
        return self._files("test")

    def _class_folders(self, part: str) -> list[Path]:
        folder = self.root / self.folders[part]
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder: name the one that holds the parts as root")
        if not folder.is_dir():
            raise DataError(
                f"{folder} is missing: {part}={self.folders[part]!r} names the folder of the "
                f"{part} part in {self.root}"
            )
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
        if not (found := [path for path in inside if not path.name.startswith(".")]):
            raise DataError(f"{folder} holds no folders, expected one for each class, by its name")
        return found

    def _files(self, part: str) -> PictureFiles:
        numbers = {name: number for number, name in enumerate(self.class_names)}
        paths, labels = [], []
        for folder in self._class_folders(part):
            if folder.name not in numbers:
                raise DataError(
                    f"{folder}: class {folder.name[:60]!r} is not among the {len(numbers)} classes "
                    "of the training part"
                )
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            inside = [path for path in files if _is_picture(path)]
            others = [path for path in files if path.suffix.lower() in OTHER_ENDINGS]
            if others:
                warnings.warn(
                    f"{folder}: {len(others)} of {len(inside) + len(others)} pictures cannot be "
                    f"read, such as {others[0].name}: convert them, or they stay out",
                    stacklevel=2,
                )
            if not inside and part == "train":
                raise DataError(
                    f"{folder}: class {folder.name[:60]!r} has no picture to learn from: no file "
                    f"ends in {', '.join(ENDINGS)}; add some, or remove the folder"
                )
            paths += inside
            labels += [numbers[folder.name]] * len(inside)
        if not paths:
            raise DataError(
                f"{self.root / self.folders[part]}: no file in its folders ends in "
                f"{', '.join(ENDINGS)}"
            )
        return PictureFiles(paths, np.array(labels, np.int64), self.channels, self.background)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file()
