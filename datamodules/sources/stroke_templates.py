"""StrokeTemplates: characters from the arrays of an npz file, one template each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage, Piece, StrokeSource, refuse
from spcnn_lightning.datamodules.sources.class_table import Classes, ClassTable
from spcnn_lightning.datamodules.sources.files import stamp_of
from spcnn_lightning.datamodules.sources.templates import Templates, read_templates
from spcnn_lightning.datamodules.strokes import StrokeSet


class StrokeTemplates(StrokeSource):
    """Templates in an npz file: see `read_templates` for its arrays.

    With one template a class there is nothing to split: both parts are the whole file. It is meant
    as test data for a network that learned from other hands.

    Args:
        root: The npz file.
        classes: Which characters to read: their names, or the first n of GB2312 level 1; those that
            the file lacks stay empty. None: all, in the order of the file, damaged ones too.
    """

    citation = "the user's own file"

    def __init__(self, root: str | Path, classes: Classes = None) -> None:
        self.root, self.classes = Path(root), classes
        self._damage: list[DataError] = []  # of what _found holds

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A name for each class."""
        return self._found.names if self.classes is None else self._table.names

    def check(self) -> None:
        """Raise `DataError` if the file is missing."""
        if not self.root.is_file():
            raise DataError(f"{self.root} is missing: name the npz file of the templates as root")

    def train(self) -> StrokeSet:
        """Return the templates of the classes."""
        return self._read(refuse)

    def test(self) -> StrokeSet:
        """Return the same as `train`."""
        return self.train()

    def pieces(self, part: str) -> Sequence[Piece]:
        """Return the file as one piece, which can leave damaged characters out."""
        self.check()
        stamp = stamp_of([self.root])
        return [Piece(part, lambda on_damage: iter([self._read(on_damage)]), stamp)]

    def _read(self, on_damage: OnDamage) -> StrokeSet:
        names, strokes, _ = self._found
        for error in self._damage:
            on_damage(error)
        if self.classes is None:
            return strokes
        if not set(names) & set(self._table.names):
            raise DataError(f"{self.root}: none of its {len(names)} characters is of a class")
        numbers = [self._table.number(names[label], str(self.root)) for label in strokes.labels]
        chosen = [place for place, number in enumerate(numbers) if number is not None]
        labels = np.array([numbers[place] for place in chosen], np.int64)
        return replace(strokes.select(chosen), labels=labels)

    @cached_property
    def _found(self) -> Templates:
        self.check()
        return read_templates(self.root, self._damage.append)

    @cached_property
    def _table(self) -> ClassTable:
        return ClassTable(self.classes, lambda _: self._found.names, str(self.root))
