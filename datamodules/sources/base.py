"""StrokeSource: where characters come from."""

from __future__ import annotations

from abc import ABC, abstractmethod

from spcnn_lightning.datamodules.strokes import StrokeSet


class StrokeSource(ABC):
    """A data set of handwritten characters with a fixed split.

    A new data set is one subclass in one file: set ``class_names`` and ``citation`` (as class
    attributes, or in ``__init__`` if they depend on its arguments) and write ``train`` and
    ``test``. Nothing is read before ``check``, ``train`` or ``test`` is called. Rows of the points
    grow downwards, columns to the right.

    >>> from spcnn_lightning.datamodules.strokes import Strokes
    >>> class Ticks(StrokeSource):
    ...     class_names = ("tick",)
    ...     citation = "none"
    ...     def train(self):
    ...         return StrokeSet.from_strokes([Strokes.from_lists([[(4, 0), (9, 3), (0, 6)]], 0)])
    ...     def test(self):
    ...         return self.train()
    >>> Ticks().num_classes, len(Ticks().train())
    (1, 1)
    """

    class_names: tuple[str, ...]
    """A name for each class, in the order of the labels."""

    citation: str
    """One line: authors, year, licence."""

    @property
    def num_classes(self) -> int:
        """Number of classes; labels are 0 .. num_classes - 1."""
        return len(self.class_names)

    def check(self) -> None:  # noqa: B027  # a source without files has nothing to check
        """Raise `DataError` if a file is missing, naming it; cheap."""

    @abstractmethod
    def train(self) -> StrokeSet:
        """Return the training part, from which validation data are taken too."""

    @abstractmethod
    def test(self) -> StrokeSet:
        """Return the official test part."""
