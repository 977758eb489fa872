"""Reader for the UNIPEN-like text of the original Pendigits files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import chain
from typing import NoReturn

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage, refuse
from spcnn_lightning.datamodules.sources.parsing import shortened
from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of

_SEGMENT = re.compile(r'\.SEGMENT\s+DIGIT\s+(\d{1,9})(?:-(\d{1,9}))?\s+\?\s+"(\d{1,9})"', re.ASCII)
_POINT = re.compile(r"(\d{1,9})\s+(\d{1,9})", re.ASCII)
_COMMENT = re.compile(r"\.COMMENT\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9})", re.ASCII)
LARGEST_COORDINATE = 500
"""The tablet of Pendigits is 500 by 500; more is a damaged line."""

_SKIPPED = (".INCLUDE", ".LEXICON", ".HIERARCHY", ".DT")


def parse_unipen_digits(
    text: str, name: str, on_damage: OnDamage = refuse, num_classes: int = 10
) -> StrokeSet:
    """Read characters with labels and writers; nothing that the text holds is passed over.

    The grammar, one item a line: ``.SEGMENT DIGIT <stroke numbers> ? "<label>"``, ``.COMMENT
    <label> <writer> <serial>``, then for each stroke ``.PEN_DOWN``, lines of two integers (x, and y
    upwards), ``.PEN_UP``. The stroke numbers count through the file and are checked, and so is the
    second statement of the label.

    Args:
        text: The contents of the file, a character for each byte.
        name: Its name, for errors.
        on_damage: Is told of the first line of a character that does not fit, and of a text that
            ends in the middle of one. The character is left out, and reading goes on at the next
            .SEGMENT, whose stroke numbers may be any.
        num_classes: Labels must lie below it.

    Returns:
        Rows point downwards: minus the y of the file.
    """
    reader = _Reader(name, on_damage, num_classes)
    offset = 0
    for reader.line, raw in enumerate(text.split("\n"), start=1):
        reader.where = f"{name}: line {reader.line} (byte {offset})"
        reader.take(raw)
        offset += len(raw) + 1
    return reader.finish()


@dataclass
class _Digit:
    label: int
    num_strokes: int  # as its .SEGMENT says
    writer: int | None = None  # until its .COMMENT
    strokes: list[list[tuple[int, int]]] = field(default_factory=list)
    pen_is_down: bool = False

    def missing(self) -> str:
        """Return what has to come before it is whole, or ""."""
        if self.writer is None:
            return ".COMMENT"
        if self.pen_is_down:
            return ".PEN_UP"
        left = self.num_strokes - len(self.strokes)
        return f"{left} more stroke{'s' * (left > 1)}" if left else ""


@dataclass
class _Reader:
    name: str
    on_damage: OnDamage
    num_classes: int
    line: int = 0
    where: str = ""
    digit: _Digit | None = None  # that is being read
    whole: list[_Digit] = field(default_factory=list)
    next_stroke: int | None = 0  # its number in the file; None after damage
    is_lost: bool = False  # from damage to the next .SEGMENT

    def take(self, raw: str) -> None:
        """Read a line, or report it as damage."""
        try:
            if raw.lstrip().startswith(".SEGMENT"):
                self.is_lost = False
            if not self.is_lost:
                self._read(raw)
        except DataError as error:
            self._lose(error)

    def finish(self) -> StrokeSet:
        """Return the characters that are whole."""
        if self.digit is not None and (missing := self.digit.missing()):
            self._lose(
                DataError(
                    f"{self.name}: the text ends after line {self.line} in the middle of character "
                    f"{len(self.whole)}: expected {missing}; the file is cut off, get it again"
                )
            )
        self._end_of_digit("")
        if not self.whole and self.next_stroke == 0:
            message = f"no .SEGMENT in {self.line} lines: not a Pendigits file"
            self.on_damage(DataError(f"{self.name}: {message}"))
        strokes = [stroke for digit in self.whole for stroke in digit.strokes]
        points = np.array(list(chain.from_iterable(strokes)), np.float32).reshape(-1, 2)
        return StrokeSet(
            np.stack([-points[:, 1], points[:, 0]], axis=1),
            offsets_of([len(stroke) for stroke in strokes]),
            offsets_of([len(digit.strokes) for digit in self.whole]),
            np.array([digit.label for digit in self.whole], np.int64),
            np.array([digit.writer for digit in self.whole], np.int32),
        )

    def _lose(self, error: DataError) -> None:
        self.digit, self.next_stroke, self.is_lost = None, None, True
        self.on_damage(error)

    def _read(self, raw: str) -> None:
        line = raw.strip()
        if not raw.isascii():
            self._fail(line, "ASCII")
        elif line.startswith(".SEGMENT"):
            self._segment(line)
        elif line.startswith(".COMMENT"):
            self._comment(line)
        elif line == ".PEN_DOWN":
            self._pen_down()
        elif line == ".PEN_UP":
            self._pen_up()
        elif line and not line.startswith("."):
            self._point(line)
        elif line:
            pen_is_down = self.digit is not None and self.digit.pen_is_down
            if line.split(maxsplit=1)[0] not in _SKIPPED or pen_is_down:
                self._fail(line, "a point or .PEN_UP" if pen_is_down else "a known directive")

    def _segment(self, line: str) -> None:
        try:
            self._end_of_digit(line)
        except DataError as error:  # of the digit before; this one may be sound
            self._lose(error)
            self.is_lost = False
        if not (match := _SEGMENT.fullmatch(line)):
            self._fail(line, '.SEGMENT DIGIT <first>[-<last>] ? "<label>"')
        first, last, label = int(match[1]), int(match[2] or match[1]), int(match[3])
        if last < first or self.next_stroke not in (None, first):
            known = "" if self.next_stroke is None else f" from {self.next_stroke} on"
            self._fail(line, f"strokes numbered{known} upwards")
        if label >= self.num_classes:
            self._fail(line, f"a label from 0 to {self.num_classes - 1}")
        self.digit, self.next_stroke = _Digit(label, last - first + 1), last + 1

    def _comment(self, line: str) -> None:
        if self.digit is None or self.digit.writer is not None:
            self._end_of_digit(line)
            self._fail(line, ".SEGMENT before each .COMMENT")
        match = _COMMENT.fullmatch(line)
        if not match or int(match[1]) != self.digit.label:
            label = self.digit.label
            self._fail(line, f".COMMENT {label} <writer> <serial>, as the .SEGMENT before says")
        self.digit.writer = int(match[2])

    def _pen_down(self) -> None:
        digit = self.digit
        if digit is not None and digit.pen_is_down:
            self._fail(".PEN_DOWN", "a point or .PEN_UP: the pen is down already")
        if digit is not None and digit.writer is None:
            self._fail(".PEN_DOWN", ".COMMENT")
        if digit is None or len(digit.strokes) == digit.num_strokes:
            self._fail(".PEN_DOWN", ".SEGMENT: no stroke of the last is left")
        digit.strokes.append([])
        digit.pen_is_down = True

    def _point(self, line: str) -> None:
        if self.digit is None or not self.digit.pen_is_down:
            self._fail(line, "a directive: the pen is up")
        match = _POINT.fullmatch(line)
        x, y = (int(match[1]), int(match[2])) if match else (-1, -1)
        if not match or max(x, y) > LARGEST_COORDINATE:
            self._fail(line, f"two integers from 0 to {LARGEST_COORDINATE}")
        self.digit.strokes[-1].append((x, y))

    def _pen_up(self) -> None:
        if self.digit is None or not self.digit.pen_is_down or not self.digit.strokes[-1]:
            self._fail(".PEN_UP", ".PEN_DOWN and at least one point before")
        self.digit.pen_is_down = False

    def _end_of_digit(self, line: str) -> None:
        """Keep the digit that was read, if there is one."""
        if self.digit is not None:
            if missing := self.digit.missing():
                rest = f"the rest of character {len(self.whole)} first: {missing}"
                self._fail(line, rest)
            self.whole.append(self.digit)
            self.digit = None

    def _fail(self, line: str, expected: str) -> NoReturn:
        raise DataError(f"{self.where}: {shortened(line)}, expected {expected}")
