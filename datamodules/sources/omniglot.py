"""Omniglot: characters of many alphabets, with the motion of the pen.

Each drawing is a text file, ``<alphabet>/character<number>/<serial>_<drawer>.txt``: ``START``, then
for each stroke lines ``x,y,t`` and ``BREAK``. The canvas is 105 wide; y is negative and falls
downwards; t is in milliseconds.

Source:
    https://github.com/brendenlake/omniglot, the archives strokes_background and
    strokes_evaluation, and the smaller strokes_background_small1 and _small2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage, refuse
from spcnn_lightning.datamodules.sources.files import FileSource, find_files, read_lines
from spcnn_lightning.datamodules.sources.parsing import build_character, parse_numbers, shortened
from spcnn_lightning.datamodules.strokes import Strokes

DRAWERS = 20
_NAME = re.compile(r"\d+_(\d\d)\.txt")


class Omniglot(FileSource):
    """Omniglot: every character of up to 50 alphabets, drawn once by each of 20 people.

    There is no official split for classification: of each alphabet, the drawers in ``test_drawers``
    are the test part. Alphabets have people of their own: drawer d of the n-th alphabet is writer
    20 n + d.

    Args:
        root: Folder that holds the folders of the alphabets. Download:
            https://github.com/brendenlake/omniglot
        test_drawers: Numbers from 1 to 20.

    Raises:
        ValueError: If a number in ``test_drawers`` is not 1 to 20.

    Source:
        B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum, Human-level concept learning through
        probabilistic program induction, Science 2015; MIT licence.
    """

    files_per_piece = 500
    citation = "Lake, Salakhutdinov, Tenenbaum (2015), Omniglot; MIT licence"

    def __init__(
        self, root: str | Path, test_drawers: tuple[int, ...] = (16, 17, 18, 19, 20)
    ) -> None:
        super().__init__(root)
        self.test_drawers = frozenset(test_drawers)
        if not self.test_drawers <= set(range(1, DRAWERS + 1)):
            raise ValueError(f"test_drawers are {test_drawers}, expected numbers from 1 to 20")

    def discover_classes(self, on_damage: OnDamage) -> list[str]:
        """Return ``<alphabet>/character<number>`` for each folder of drawings."""
        return [_class_of(path) for path in self._all_files()]

    def files(self, part: str) -> list[Path]:
        """Return the drawings by the people of ``part``."""
        wanted = part == "test"
        return [p for p in self._all_files() if (_drawer(p) in self.test_drawers) == wanted]

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the one drawing of a file."""
        label = self.table.number(_class_of(path), str(path))
        writer = DRAWERS * self._alphabets.index(path.parent.parent.name) + _drawer(path)
        assert label is not None
        try:
            yield read_drawing(path, label, writer)
        except DataError as error:
            on_damage(error)

    @cached_property
    def _alphabets(self) -> list[str]:
        return sorted({name.split("/")[0] for name in self.class_names})

    def _all_files(self) -> list[Path]:
        return find_files(self.root, ("*/character*/*.txt",), "Omniglot's alphabets")


def read_drawing(path: Path, label: int, writer: int) -> Strokes:
    """Return the drawing of a file.

    Raises:
        DataError: If a line is neither START, BREAK nor three numbers, or one of them is missing.
    """
    strokes: list[list[list[float]]] = [[]]
    expected = "START"
    for text, where in read_lines(path, refuse):
        if expected == "START" or text == "START":
            if text != expected:
                raise DataError(f"{where}: {shortened(text)}, expected {expected}")
            expected = "x,y,t or BREAK"
        elif text == "BREAK":
            strokes.append([])
        else:
            point = parse_numbers(text.split(","), where)
            if len(point) != 3:
                raise DataError(f"{where}: {shortened(text)}, expected {expected}")
            strokes[-1].append(point)
    if strokes[-1] or len(strokes) == 1:
        raise DataError(f"{path}: the text ends after {len(strokes) - 1} strokes, expected BREAK")
    arrays = [np.array(stroke, np.float64).reshape(-1, 3) for stroke in strokes]
    return build_character(
        [stroke[:, [1, 0]] * (-1, 1) for stroke in arrays],
        label,
        writer,
        time=[stroke[:, 2] for stroke in arrays],
        where=str(path),
    )


def _class_of(path: Path) -> str:
    return f"{path.parent.parent.name}/{path.parent.name}"


def _drawer(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    if not match or not 1 <= int(match[1]) <= DRAWERS:
        raise DataError(f"{path}: expected a name like 0108_01.txt, with a drawer from 01 to 20")
    return int(match[1])
