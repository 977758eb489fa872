"""Reader for the UNIPEN-like text of the original Pendigits files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.parsing import shortened
from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of

_SEGMENT = re.compile(r'\.SEGMENT\s+DIGIT\s+(\d{1,9})(?:-(\d{1,9}))?\s+\?\s+"(\d{1,9})"', re.ASCII)
_POINT = re.compile(r"(\d{1,9})\s+(\d{1,9})", re.ASCII)
_COMMENT = re.compile(r"\.COMMENT\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9})", re.ASCII)
LARGEST_COORDINATE = 500
"""The tablet of Pendigits is 500 by 500; more is a damaged line."""

_SKIPPED = (".INCLUDE", ".LEXICON", ".HIERARCHY", ".DT")


def parse_unipen_digits(text: str, name: str, num_classes: int = 10) -> StrokeSet:
    """Read characters with labels and writers; nothing that the text holds is passed over.

    The grammar, one item a line: ``.SEGMENT DIGIT <stroke numbers> ? "<label>"``, ``.COMMENT
    <label> <writer> <serial>``, then for each stroke ``.PEN_DOWN``, lines of two integers (x, and y
    upwards), ``.PEN_UP``. The stroke numbers count through the file and are checked, and so is the
    second statement of the label.

    Args:
        text: The contents of the file.
        name: Its name, for errors.
        num_classes: Labels must lie below it.

    Returns:
        Rows point downwards: minus the y of the file.

    Raises:
        DataError: At the first line that does not fit, naming it, or if the text ends in the
            middle of a character.
    """
    reader = _Reader(name, num_classes)
    for reader.line, raw in enumerate(text.split("\n"), start=1):
        if line := raw.strip():
            reader.read(line)
    return reader.finish()


@dataclass
class _Reader:
    name: str
    num_classes: int
    points: list[tuple[int, int]] = field(default_factory=list)
    stroke_lengths: list[int] = field(default_factory=list)
    strokes_per_character: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    writers: list[int] = field(default_factory=list)
    label: int = -1  # of the segment whose comment is awaited
    strokes_left: int = 0
    stroke_begin: int = -1  # first point of the stroke being read; -1 while the pen is up
    line: int = 0

    def read(self, line: str) -> None:
        if not line.startswith("."):
            self._point(line)
        elif line == ".PEN_DOWN":
            self._pen_down()
        elif line == ".PEN_UP":
            self._pen_up()
        elif line.startswith(".SEGMENT"):
            self._segment(line)
        elif line.startswith(".COMMENT"):
            self._comment(line)
        elif line.split(maxsplit=1)[0] not in _SKIPPED or self.stroke_begin >= 0:
            expected = "a point or .PEN_UP" if self.stroke_begin >= 0 else "a known directive"
            self._fail(line, expected)

    def finish(self) -> StrokeSet:
        if self.label >= 0 or self.strokes_left or self.stroke_begin >= 0:
            missing = (
                ".PEN_UP" if self.stroke_begin >= 0 else f"{max(self.strokes_left, 1)} more strokes"
            )
            raise DataError(
                f"{self.name}: the text ends after line {self.line} in the middle of character "
                f"{len(self.labels)}: expected {missing}; the file is cut off, get it again"
            )
        if not self.labels:
            raise DataError(f"{self.name}: no .SEGMENT in {self.line} lines: not a Pendigits file")
        points = np.array(self.points, np.float32)
        return StrokeSet(
            np.stack([-points[:, 1], points[:, 0]], axis=1),
            offsets_of(self.stroke_lengths),
            offsets_of(self.strokes_per_character),
            np.array(self.labels, np.int64),
            np.array(self.writers, np.int32),
        )

    def _point(self, line: str) -> None:
        if self.stroke_begin < 0:
            self._fail(line, "a directive: the pen is up")
        if not (match := _POINT.fullmatch(line)):
            self._fail(line, f"two integers from 0 to {LARGEST_COORDINATE}")
        x, y = int(match[1]), int(match[2])
        if max(x, y) > LARGEST_COORDINATE:
            self._fail(line, f"two integers from 0 to {LARGEST_COORDINATE}")
        self.points.append((x, y))

    def _pen_down(self) -> None:
        if self.stroke_begin >= 0:
            self._fail(".PEN_DOWN", "a point or .PEN_UP: the pen is down already")
        if self.label >= 0 or not self.strokes_left:
            wanted = ".COMMENT" if self.label >= 0 else ".SEGMENT: no stroke of the last is left"
            self._fail(".PEN_DOWN", wanted)
        self.stroke_begin = len(self.points)

    def _pen_up(self) -> None:
        if self.stroke_begin < 0 or len(self.points) == self.stroke_begin:
            self._fail(".PEN_UP", ".PEN_DOWN and at least one point before")
        self.stroke_lengths.append(len(self.points) - self.stroke_begin)
        self.stroke_begin = -1
        self.strokes_left -= 1

    def _segment(self, line: str) -> None:
        if self.label >= 0 or self.strokes_left or self.stroke_begin >= 0:
            self._fail(line, f"the rest of character {len(self.labels) - 1} first")
        if not (match := _SEGMENT.fullmatch(line)):
            self._fail(line, '.SEGMENT DIGIT <first>[-<last>] ? "<label>"')
        first, last = int(match[1]), int(match[2] or match[1])
        if first != len(self.stroke_lengths) or last < first:
            self._fail(line, f"strokes numbered from {len(self.stroke_lengths)} on")
        self.label, self.strokes_left = int(match[3]), last - first + 1
        if self.label >= self.num_classes:
            self._fail(line, f"a label from 0 to {self.num_classes - 1}")

    def _comment(self, line: str) -> None:
        if self.label < 0:
            self._fail(line, ".SEGMENT before each .COMMENT")
        match = _COMMENT.fullmatch(line)
        if not match or int(match[1]) != self.label:
            self._fail(
                line, f".COMMENT {self.label} <writer> <serial>, as the .SEGMENT before says"
            )
        self.labels.append(self.label)
        self.writers.append(int(match[2]))
        self.strokes_per_character.append(self.strokes_left)
        self.label = -1

    def _fail(self, line: str, expected: str) -> NoReturn:
        raise DataError(f"{self.name}: line {self.line}: {shortened(line)}, expected {expected}")
