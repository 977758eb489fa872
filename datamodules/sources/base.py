"""StrokeSource: where characters come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.characters import Characters
from spcnn_lightning.datamodules.strokes import StrokeSet

PARTS = ("train", "test")
"""The parts of a source."""

OnDamage = Callable[[DataError], None]
"""Is told of each damaged record. It raises, or returns to have the record left out."""


def refuse(error: DataError) -> None:
    """Raise ``error``: the `OnDamage` that leaves nothing out."""
    raise error


class Piece(NamedTuple):
    """Some of the characters of a source, read on demand.

    Args:
        name: The same in every run, for progress and for going on after a break.
        read: Yields the characters, a limited number at a time.
        stamp: Another one when its data have changed, as far as can be told without reading them.
    """

    name: str
    read: Callable[[OnDamage], Iterator[StrokeSet]]
    stamp: str = ""


class StrokeSource(ABC):
    """A data set of handwritten characters with a fixed split.

    A new data set is one subclass in one file: set ``class_names`` and ``citation`` (as class
    attributes, in ``__init__`` or as properties if they depend on its arguments) and write
    ``train`` and ``test``. No stroke is read before ``train``, ``test`` or a piece is asked for.
    Rows of the points grow downwards, columns to the right.

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

    licence_text: str = ""
    """The licence in full, where it must travel with copies of the data."""

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

    def characters(self, part: str) -> Characters:
        """Return ``part``, "train" or "test", as a sequence, which need not be in memory."""
        return self.train() if part == "train" else self.test()

    def pieces(self, part: str) -> Sequence[Piece]:
        """Return what makes up ``part``, "train" or "test", for reading it in bounded memory.

        A source that does not say otherwise is one piece, held in memory whole.
        """
        return [Piece(part, lambda _: iter([self.train() if part == "train" else self.test()]))]
