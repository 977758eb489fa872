"""StrokeTemplates: characters from the arrays of an npz file, one template each."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import StrokeSource
from spcnn_lightning.datamodules.sources.class_table import Classes, ClassTable
from spcnn_lightning.datamodules.sources.templates import Templates, read_templates
from spcnn_lightning.datamodules.strokes import StrokeSet


class StrokeTemplates(StrokeSource):
    """Templates in an npz file: see `read_templates` for its arrays.

    With one template a class there is nothing to split: both parts are the whole file. It is meant
    as test data for a network that learned from other hands.

    Args:
        root: The npz file.
        classes: Which characters to read: their names, or the first n of GB2312 level 1; those that
            the file lacks stay empty. None: all, in the order of the file.
    """

    citation = "the user's own file"

    def __init__(self, root: str | Path, classes: Classes = None) -> None:
        self.root, self.classes = Path(root), classes

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A name for each class."""
        return self._templates.names if self.classes is None else self._table.names

    def check(self) -> None:
        """Raise `DataError` if the file is missing."""
        if not self.root.is_file():
            raise DataError(f"{self.root} is missing: name the npz file of the templates as root")

    def train(self) -> StrokeSet:
        """Return the templates of the classes."""
        names, strokes = self._templates.names, self._templates.strokes
        if self.classes is None:
            return strokes
        labels = [self._table.number(name, str(self.root)) for name in names]
        found = [(place, label) for place, label in enumerate(labels) if label is not None]
        if not found:
            raise DataError(f"{self.root}: none of its {len(names)} characters is of a class")
        places, numbers = np.array(found).T
        chosen = strokes.select(places)
        return StrokeSet(chosen.points, chosen.point_offsets, chosen.stroke_offsets, numbers)

    def test(self) -> StrokeSet:
        """Return the same as `train`."""
        return self.train()

    @cached_property
    def _templates(self) -> Templates:
        self.check()
        return read_templates(self.root)

    @cached_property
    def _table(self) -> ClassTable:
        return ClassTable(self.classes, lambda: self._templates.names, str(self.root))
