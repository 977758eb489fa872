"""Assamese: UCI data set 208, online handwritten Assamese characters.

Each character is a text file, ``W<writer>/<class>.<writer>.txt``::

    CHARACTER_NAME: KA
    STROKE_COUNT: 1
    X Y STYLUS_STATE STROKE
    PEN_DOWN
    1203 845 1 1
    PEN_UP
    END_CHARACTER: KA

Points are x, y, the state of the stylus (1) and the number of the stroke; numbers may follow
PEN_UP. Quirks of the archive: some names end in ``.TXT``, and the folder W6 holds one file that is
named after another writer, ``15.5.TXT``, which differs from W5's and is left out. The axis y is
read as growing downwards.

Source:
    U. Baruah, S. M. Hazarika, Online Handwritten Assamese Characters Dataset, UCI data set 208,
    2011.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import FileSource, find_files, read_file_bytes
from spcnn_lightning.datamodules.sources.parsing import build_character, parse_numbers, shortened
from spcnn_lightning.datamodules.strokes import Strokes

NUM_CLASSES = 183
WRITERS = range(1, 46)
STRAY = "W6/15.5.TXT"
PEN_DOWN = "PEN_DOWN"
POINT = "four numbers, or PEN_UP after at least one point"
_NEXT = {
    "CHARACTER_NAME:": "STROKE_COUNT:",
    "STROKE_COUNT:": "X Y",
    "X Y": PEN_DOWN,
    PEN_DOWN: POINT,
}
"""What is expected after the line that was expected."""
_NAME = re.compile(r"(\d+)\.(\d+)\.txt", re.IGNORECASE)


class Assamese(FileSource):
    """Online handwritten Assamese characters: 8,235 samples of 183 classes by 45 writers.

    52 letters, 10 numerals and 121 conjuncts; classes are named by their numbers in the archive,
    "1" to "183". The split by writers is that of the paper's programs: 1 to 36 for training.

    Args:
        root: The folder with the folders W1 to W45. Download:
            https://archive.ics.uci.edu/dataset/208
        test_writers: Who wrote the test part.

    Raises:
        ValueError: If ``test_writers`` is not between 1 and 45.

    Source:
        U. Baruah, S. M. Hazarika, UCI data set 208, 2011, CC BY 4.0.
    """

    files_per_piece = 183
    citation = (
        "Baruah, Hazarika (2011), Online Handwritten Assamese Characters, UCI data set 208; "
        "CC BY 4.0"
    )

    def __init__(
        self, root: str | Path, test_writers: tuple[int, ...] = tuple(range(37, 46))
    ) -> None:
        super().__init__(root)
        self.test_writers = frozenset(test_writers)
        if not self.test_writers <= set(WRITERS):
            raise ValueError(f"test_writers are {test_writers}, expected numbers from 1 to 45")

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The numbers of the classes in the archive."""
        return tuple(str(number) for number in range(1, NUM_CLASSES + 1))

    def discover_classes(self, on_damage: OnDamage) -> tuple[str, ...]:
        """Return "1" to "183"."""
        return self.class_names

    def files(self, part: str) -> list[Path]:
        """Return the characters by the writers of ``part``."""
        patterns = ("W*/*.txt", "W*/*.TXT")
        found = find_files(self.root, patterns, "the writers' folders W1 to W45")
        kept = [path for path in found if path.relative_to(self.root).as_posix() != STRAY]
        wanted = part == "test"
        return [p for p in kept if (_class_and_writer(p)[1] in self.test_writers) == wanted]

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the one character of a file."""
        number, writer = _class_and_writer(path)
        try:
            yield read_character(path, number - 1, writer)
        except DataError as error:
            on_damage(error)


def read_character(path: Path, label: int, writer: int) -> Strokes:
    """Return the character of a file.

    Raises:
        DataError: If a line does not fit, or the number of strokes is not the one announced.
    """
    # Names are in an encoding of their own, and not needed.
    text = read_file_bytes(path).decode("latin-1")
    reader = _Reader(path)
    for reader.line, raw in enumerate(text.split("\n"), start=1):
        if line := raw.strip():
            reader.read(line)
    arrays = [np.array(stroke, np.float64)[:, [1, 0]] for stroke in reader.finish()]
    return build_character(arrays, label, writer, where=str(path))


class _Reader:
    """Takes the lines of a file one after the other."""

    def __init__(self, path: Path) -> None:
        self.path, self.line, self.announced = path, 0, 0
        self.strokes: list[list[list[float]]] = []
        self.expected = "CHARACTER_NAME:"

    def read(self, line: str) -> None:
        where = f"{self.path}: line {self.line}"
        words = line.split()
        if self.expected == POINT:
            if words[0] == "PEN_UP":
                parse_numbers(words[1:], where)
                self._require(where, line, bool(self.strokes[-1]))
                self.expected = PEN_DOWN
            else:
                point = parse_numbers(words, where)
                self._require(where, line, len(point) == 4)
                self.strokes[-1].append(point)
        elif self.expected == PEN_DOWN and words[0].startswith("END_CHARACTER"):
            self.expected = "the end of the text"
        else:
            self._require(where, line, line.startswith(self.expected))
            self._next(words, where)

    def finish(self) -> list[list[list[float]]]:
        """Return the strokes, whose number must be the one announced."""
        if self.expected != "the end of the text" or len(self.strokes) != self.announced:
            raise DataError(
                f"{self.path}: ends at line {self.line} after {len(self.strokes)} strokes, "
                f"expected {self.announced} and END_CHARACTER: the file is cut off or damaged"
            )
        return self.strokes

    def _next(self, words: list[str], where: str) -> None:
        if self.expected == PEN_DOWN:
            self.strokes.append([])
        elif self.expected == "STROKE_COUNT:":
            self._require(where, " ".join(words), words[-1].isdecimal() and len(words[-1]) < 10)
            self.announced = int(words[-1])
        self.expected = _NEXT[self.expected]

    def _require(self, where: str, line: str, fits: bool) -> None:
        if not fits:
            raise DataError(f"{where}: {shortened(line)}, expected {self.expected}")


def _class_and_writer(path: Path) -> tuple[int, int]:
    match = _NAME.fullmatch(path.name)
    number, writer = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= NUM_CLASSES or writer not in WRITERS or path.parent.name != f"W{writer}":
        raise DataError(
            f"{path}: expected a name like W5/15.5.txt: class 1 to {NUM_CLASSES}, and the number "
            "of the writer twice"
        )
    return number, writer
