"""SimulatedHanzi: the classes of CASIA-OLHWDB in simulated handwriting, which is not real."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage, Piece, StrokeSource
from spcnn_lightning.datamodules.sources.class_table import level1_characters
from spcnn_lightning.datamodules.sources.simulated_writers import (
    Samples,
    SimulatedWriters,
    resampled,
)
from spcnn_lightning.datamodules.sources.templates import Templates, read_templates
from spcnn_lightning.datamodules.strokes import StrokeSet

DATA = Path(__file__).resolve().parent.parent / "data"
TEMPLATES, LICENCE = DATA / "hanzi_gb1_u8.npz", DATA / "ARPHICPL.txt"
FIRST_TEST_WRITER = 1_000_000
"""Test writers are numbered from here on, so they are nobody who writes training characters."""
CHARACTERS_AT_A_TIME = 1_024


class SimulatedCharacters:
    """Simulated characters of some writers, made when they are asked for.

    Character i is by writer ``first_writer + i // (R * C)`` and of class ``i % C``: all C classes,
    R times, then the next writer.

    Args:
        hands: Makes them.
        first_writer: Number of the first writer.
        num_writers: How many there are.
        repetitions: R.
    """

    def __init__(
        self, hands: SimulatedWriters, first_writer: int, num_writers: int, repetitions: int
    ) -> None:
        self.hands, self.first_writer = hands, first_writer
        self.num_classes, self.repetitions = len(hands.templates), repetitions
        self.length = num_writers * repetitions * self.num_classes

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Class numbers, shape (B,)."""
        return self._samples(np.arange(self.length)).labels

    @cached_property
    def writers(self) -> NDArray[np.int32]:
        """Numbers of the simulated writers, shape (B,)."""
        return self._samples(np.arange(self.length)).writers.astype(np.int32)

    def __len__(self) -> int:
        return self.length

    def select(self, indices: ArrayLike) -> StrokeSet:
        """Make the characters at ``indices``, in that order; each is the same every time."""
        chosen = np.asarray(indices, np.int64).reshape(-1)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= self.length):
            raise IndexError(
                f"characters {chosen.min()} to {chosen.max()} asked of a set of {self.length}"
            )
        return self.hands.write(self._samples(chosen))

    def _samples(self, indices: NDArray[np.int64]) -> Samples:
        rounds, labels = np.divmod(indices, self.num_classes)
        writers, repetitions = np.divmod(rounds, self.repetitions)
        return Samples(labels, self.first_writer + writers, repetitions)


class SimulatedHanzi(StrokeSource):
    """Simulated handwriting of the 3,755 characters of GB2312 level 1, which are CASIA's classes.

    A stand-in for CASIA-OLHWDB of the same size that needs no licence: a template for each class,
    deformed and cursively joined by simulated writers (see `simulated_writers`). Writers of the
    test part do not write in the training part. The number of classes and the load are realistic,
    the errors are not: they say nothing about real handwriting and cannot be compared with the
    3.82 % of the paper. Report the errors on other hands too, such as `KanjiVG`'s.

    Args:
        classes: The first n characters of level 1, or these characters of it. A writer writes a
            character alike, whichever others are chosen.
        train_writers: How many simulated people write the training part; 240 as in CASIA-OLHWDB1.1,
            which makes 901,200 characters.
        test_writers: How many write the test part.
        repetitions: How often each writes each character, each time a little otherwise.
        seed: Other writers for another seed.
        join: How readily the pen stays down between strokes, from 0 (never) to less than 1.
        deformation: Factor of all other deformations; 0 for none.

    Raises:
        ValueError: If a number is out of range, or a class is not in level 1.

    Source:
        Templates: Make Me a Hanzi, from fonts by Arphic Technology; Arphic Public License.
    """

    citation = (
        "Simulated writers of this project; templates: Make Me a Hanzi, from fonts by Arphic "
        "Technology, Arphic Public License"
    )

    def __init__(
        self,
        classes: int | list[str] = 3755,
        train_writers: int = 240,
        test_writers: int = 60,
        repetitions: int = 1,
        seed: int = 0,
        join: float = 0.65,
        deformation: float = 1.0,
    ) -> None:
        numbers = {
            "train_writers": train_writers,
            "test_writers": test_writers,
            "repetitions": repetitions,
        }
        for name, number in numbers.items():
            if not 1 <= number <= FIRST_TEST_WRITER:
                raise ValueError(f"{name} is {number}, expected 1 to {FIRST_TEST_WRITER:,}")
        if not 0 <= join < 1 or not 0 <= deformation < np.inf:
            raise ValueError(
                f"join is {join} and deformation {deformation}, expected 0 <= join < 1 and a "
                "deformation of at least 0"
            )
        names = level1_characters(classes) if isinstance(classes, int) else tuple(classes)
        if not names or len(set(names) & set(level1_characters())) < len(names):
            raise ValueError(
                f"classes are {classes}, expected different characters of GB2312 level 1, at least "
                "one"
            )
        self.class_names = names
        self.num_writers = {"train": train_writers, "test": test_writers}
        self.repetitions, self.seed = repetitions, seed
        self.join, self.deformation = join, deformation

    @property
    def licence_text(self) -> str:  # type: ignore[override]
        """The Arphic Public License, which must travel with copies of the templates."""
        return LICENCE.read_text(encoding="utf-8")

    def characters(self, part: str) -> SimulatedCharacters:
        """Return a part as a sequence; nothing of it is in memory."""
        first = 0 if part == "train" else FIRST_TEST_WRITER
        return SimulatedCharacters(self._hands, first, self.num_writers[part], self.repetitions)

    def train(self) -> StrokeSet:
        """Return the training part, in memory: about a gigabyte at full size."""
        return self._whole("train")

    def test(self) -> StrokeSet:
        """Return the test part, in memory."""
        return self._whole("test")

    def pieces(self, part: str) -> Sequence[Piece]:
        """Return a piece for each writer."""
        characters = self.characters(part)
        each = len(characters) // self.num_writers[part]
        return [
            Piece(
                f"simulated writer {characters.first_writer + number}",
                partial(_make, characters, range(number * each, (number + 1) * each)),
            )
            for number in range(self.num_writers[part])
        ]

    @cached_property
    def _hands(self) -> SimulatedWriters:
        templates = _shipped_templates()
        places = [templates.names.index(name) for name in self.class_names]
        chosen = templates.strokes.select(places)
        strokes = StrokeSet(
            chosen.points, chosen.point_offsets, chosen.stroke_offsets, np.arange(len(places))
        )
        prepared = resampled(strokes, templates.box)
        numbers = np.array(places, np.int64)  # places in level 1
        return SimulatedWriters(prepared, numbers, self.seed, self.join, self.deformation)

    def _whole(self, part: str) -> StrokeSet:
        characters = self.characters(part)
        return characters.select(np.arange(len(characters)))


def _make(
    characters: SimulatedCharacters, indices: range, on_damage: OnDamage
) -> Iterator[StrokeSet]:
    for start in range(indices.start, indices.stop, CHARACTERS_AT_A_TIME):
        yield characters.select(np.arange(start, min(start + CHARACTERS_AT_A_TIME, indices.stop)))


def _shipped_templates() -> Templates:
    templates = read_templates(TEMPLATES)
    if templates.names != level1_characters():
        raise DataError(f"{TEMPLATES}: not the characters of GB2312 level 1: install again")
    return templates
