"""Other views of a source: other people held out for the test, or fewer labels."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.characters import Characters, Subset
from spcnn_lightning.datamodules.joining import concatenate
from spcnn_lightning.datamodules.randomness import seeded_order
from spcnn_lightning.datamodules.sources.base import StrokeSource
from spcnn_lightning.datamodules.strokes import StrokeSet

_FEW_LABELS_STREAM = 0x66657720  # keeps the choice independent of splits and orders


class _View(StrokeSource):
    """A source made of the characters of another."""

    def __init__(self, source: StrokeSource) -> None:
        self.source = source

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The classes of the source."""
        return tuple(self.source.class_names)

    @property
    def citation(self) -> str:  # type: ignore[override]
        """The citation of the source."""
        return self.source.citation

    @property
    def licence_text(self) -> str:  # type: ignore[override]
        """The licence of the source."""
        return self.source.licence_text

    def check(self) -> None:
        """Check the source's files."""
        self.source.check()

    def train(self) -> StrokeSet:
        """Return the training part, in memory."""
        return _whole(self.characters("train"))

    def test(self) -> StrokeSet:
        """Return the test part, in memory."""
        return _whole(self.characters("test"))


class WriterFold(_View):
    """Both parts of a source as one, with every n-th writer held out for the test.

    One of n folds of a cross-validation that is grouped by writer: each writer is in the test part
    of exactly one fold, and never in the training part of that fold. Both parts are in memory.

    Args:
        source: Its characters say who wrote them.
        fold: From 0 to ``folds - 1``: writers with ``writer % folds == fold`` are the test part.
        folds: n.
        training_only: Fold the training part alone, to choose settings: the official test part
            stays out of both.

    Raises:
        ValueError: If ``fold`` is none of at least two folds.
        DataError: From `characters`, if writers are not known or a part would be empty.

    Example:
        ``--data.source=WriterFold --data.source.fold=2 --data.source.source=Pendigits
        --data.source.source.root=data/pendigits``
    """

    def __init__(
        self, source: StrokeSource, fold: int, folds: int = 5, training_only: bool = False
    ) -> None:
        super().__init__(source)
        if folds < 2 or not 0 <= fold < folds:
            raise ValueError(
                f"fold is {fold} and folds {folds}: give at least 2 folds, and one of 0 .. "
                "folds - 1 for the test"
            )
        self.fold, self.folds, self.training_only = fold, folds, training_only

    def characters(self, part: str) -> Characters:
        """Return the characters of the fold's writers ("test") or of all others ("train")."""
        writers = self._everything.writers
        if writers is None:
            raise DataError(
                f"{type(self.source).__name__} does not say who wrote what, which WriterFold needs"
            )
        chosen = (writers % self.folds == self.fold) == (part == "test")
        if not chosen.any():
            raise DataError(
                f"fold {self.fold} of {self.folds} leaves the {part} part empty: the writers are "
                f"{np.unique(writers)[:20].tolist()}"
            )
        return Subset(self._everything, np.flatnonzero(chosen))

    @cached_property
    def _everything(self) -> StrokeSet:
        if self.training_only:
            return self.source.train()
        return concatenate([self.source.train(), self.source.test()])


class FewLabels(_View):
    """A source with only n training characters of each class; the test part stays whole.

    Args:
        source: Where they come from.
        per_class: n; of a class that has fewer, all.
        seed: Decides which. The characters for a smaller n are among those for a larger.

    Raises:
        ValueError: If ``per_class`` is not positive.
    """

    def __init__(self, source: StrokeSource, per_class: int, seed: int = 0) -> None:
        super().__init__(source)
        if per_class < 1:
            raise ValueError(f"per_class is {per_class}: give at least 1 character of each class")
        self.per_class, self.seed = per_class, seed

    def characters(self, part: str) -> Characters:
        """Return the few training characters, or the whole test part."""
        everything = self.source.characters(part)
        if part == "test":
            return everything
        return Subset(everything, first_of_each(everything.labels, self.per_class, self.seed))


def first_of_each(labels: NDArray[Any], per_class: int, seed: int) -> NDArray[np.int64]:
    """Return the places of ``per_class`` items of each class, drawn at random, in rising order."""
    order = seeded_order(len(labels), seed, _FEW_LABELS_STREAM)
    by_class = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(by_class[rank < per_class])


def _whole(characters: Characters) -> StrokeSet:
    return characters.select(np.arange(len(characters)))
