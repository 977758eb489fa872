"""UserFiles: a folder of training files and one of test files, in a form that many tools write."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import PARTS, OnDamage
from spcnn_lightning.datamodules.sources.class_table import Classes
from spcnn_lightning.datamodules.sources.files import FileSource, find_files


class UserFiles(FileSource):
    """Files of one format in the folders of a training and a test part.

    Args:
        root: The folder that holds both.
        train: Folder or file of the training part in it; "." for all of ``root``.
        test: The same for the test part.
        classes: Which characters to read: their names, or the first n of GB2312 level 1. None: all
            classes that the training part holds, sorted by name; one that only the test part holds
            is then an error when that part is read.
        keep_time: False leaves time out, for files of which only some have it.
        keep_pressure: The same for pressure.
        keep_writers: The same for writers.
    """

    patterns: tuple[str, ...]
    """Which files count."""

    what: str
    """What they are, for errors."""

    citation = "the user's own files"

    def __init__(
        self,
        root: str | Path,
        train: str = "train",
        test: str = "test",
        classes: Classes = None,
        keep_time: bool = True,
        keep_pressure: bool = True,
        keep_writers: bool = True,
    ) -> None:
        super().__init__(root, classes)
        self.folders = dict(zip(PARTS, (train, test), strict=True))
        self.keep_time, self.keep_pressure = keep_time, keep_pressure
        self.keep_writers = keep_writers

    def discover_classes(self, on_damage: OnDamage) -> Iterator[str]:
        """Return the classes of the training part."""
        for path in self.files("train"):
            yield from self.read_labels(path, on_damage)

    def files(self, part: str) -> list[Path]:
        """Return the files of ``part``.

        Raises:
            DataError: If there is none, or the folder of one part lies in that of the other.
        """
        folder = self.root / self.folders[part]
        self._require_apart()
        if not folder.exists():
            raise DataError(
                f"{folder} is missing: {part}={self.folders[part]!r} names the folder or file of "
                f"the {part} part in {self.root}; '.' is all of it"
            )
        return find_files(folder, self.patterns, self.what)

    def _require_apart(self) -> None:
        train, test = ((self.root / folder).resolve() for folder in self.folders.values())
        inside = train in test.parents or test in train.parents
        if inside and train.exists() and test.exists():
            raise DataError(
                f"{train} is the training part and {test} the test part: one folder lies in the "
                "other, so files would be in both: name two side by side"
            )

    @abstractmethod
    def read_labels(self, path: Path, on_damage: OnDamage) -> Iterable[str]:
        """Return the names of the classes that a file holds."""
