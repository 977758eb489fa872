"""The UNIPEN 1.0 text format: statements, pen streams and the segments made of them.

A statement begins with a dot and a keyword in capitals at the beginning of a line; its arguments go
on to the next one. `.PEN_DOWN` and `.PEN_UP` hold repeated coordinates in the order of `.COORD`;
these components are numbered from 0, those without coordinates not counted, and the count begins
anew with `.START_SET`. ``.SEGMENT CHARACTER 3:0-4:48,7 OK "d"`` names the type, the components (and
points in them, both ends included), the quality and the label of a segment; ``?`` in place of the
components stands for those that follow, up to the next segment of that type. y grows upwards.

Source:
    I. Guyon, UNIPEN 1.0 format definition (unipen.def), AT&T Bell Laboratories, 1994.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import Line
from spcnn_lightning.datamodules.sources.parsing import Doubles, parse_numbers, shortened

_KEYWORD = re.compile(r"\.([A-Z][A-Z0-9_]*)(?:\s+(.*))?", re.ASCII | re.DOTALL)
_SEGMENT = re.compile(r'(\S+)(?:\s+(\S+)(?:\s+(\S+)(?:\s+"((?:[^"\\]|\\.)*)")?)?)?', re.DOTALL)
_RANGE = re.compile(r"(\d{1,9})(?::(\d{1,9}))?(?:-(\d{1,9})(?::(\d{1,9}))?)?", re.ASCII)
_STREAMS = ("PEN_DOWN", "PEN_UP")


class Segment(NamedTuple):
    """A labelled part of the ink.

    Args:
        label: As written, with escapes resolved.
        strokes: For each stroke the values of its points in the order of ``axes``, shape (T, A).
        axes: "X", "Y" and perhaps others, such as "T" in milliseconds and "P".
        writer: As `.WRITER_ID` says, or None.
        where: File, line and byte of its statement.
    """

    label: str
    strokes: list[Doubles]
    axes: tuple[str, ...]
    writer: str | None
    where: str


class _Statement(NamedTuple):
    delineation: str | None
    label: str
    first: int  # the component that follows it
    end: int | None  # the component before which the next of its type stands
    where: str
    writer: str | None


@dataclass
class UnipenReader:
    """Reads the segments of one type.

    Args:
        level: Their type, such as "CHARACTER". None: the last one of `.HIERARCHY`.
        on_damage: Is told of what cannot be read.
        include: Returns the lines of an included file, or None if it is not there.
    """

    level: str | None
    on_damage: OnDamage
    include: Callable[[str], Iterator[Line] | None]
    _axes: tuple[str, ...] = ("X", "Y")
    _writer: str | None = None
    _keyword: str = ""
    _words: list[str] = field(default_factory=list)
    _begin: str = ""  # where the pen stream began
    _components: list[Doubles | None] = field(default_factory=list)  # None: damaged
    _down: list[bool] = field(default_factory=list)
    _statements: list[_Statement] = field(default_factory=list)
    _missing: list[str] = field(default_factory=list)

    def segments(self, lines: Iterator[Line]) -> Iterator[Segment]:
        """Yield the segments in the order of their statements."""
        yield from self._read(lines)
        self._end_of_stream()
        yield from self._end_of_set()

    def _read(self, lines: Iterator[Line]) -> Iterator[Segment]:
        for line in lines:
            match = _KEYWORD.fullmatch(line.text)
            if match is None:
                if self._keyword in _STREAMS:
                    self._words += line.text.split()
                continue
            self._end_of_stream()
            keyword, arguments = match[1], (match[2] or "").strip()
            self._keyword = keyword
            try:
                if keyword == "START_SET":
                    # Real files state segments before the first set begins, too.
                    if self._components:
                        yield from self._end_of_set()
                elif keyword == "INCLUDE" and (inside := self.include(arguments)) is not None:
                    yield from self._read(inside)
                    self._end_of_stream()
                elif keyword == "INCLUDE":
                    self._missing.append(arguments)
                else:
                    self._take(keyword, arguments, line.where)
            except DataError as error:
                self.on_damage(error)

    def _take(self, keyword: str, arguments: str, where: str) -> None:
        if keyword in _STREAMS:
            self._words, self._begin = arguments.split(), where
        elif keyword == "COORD":
            axes = tuple(arguments.split())
            if not {"X", "Y"} <= set(axes) or len(set(axes)) < len(axes):
                raise DataError(f"{where}: .COORD {shortened(arguments)}, expected X, Y and others")
            self._axes = axes
        elif keyword == "HIERARCHY" and self.level is None and arguments:
            self.level = arguments.rsplit(maxsplit=1)[-1]
        elif keyword == "WRITER_ID":
            self._writer = arguments or None
        elif keyword == "SEGMENT":
            self._segment(arguments, where)

    def _segment(self, arguments: str, where: str) -> None:
        if self.level is None:
            raise DataError(f"{where}: no .HIERARCHY before it: name the level to read")
        match = _SEGMENT.fullmatch(arguments)
        if match is None:
            raise DataError(f'{where}: .SEGMENT {shortened(arguments)}, expected ... ? OK "label"')
        if match[1] != self.level:
            return
        if match[4] is None:
            raise DataError(f"{where}: .SEGMENT {shortened(arguments)}: a segment without a label")
        here = len(self._components)
        if self._statements and self._statements[-1].end is None:
            self._statements[-1] = self._statements[-1]._replace(end=here)
        label = re.sub(r"\\(.)", lambda m: {"t": " ", "n": " "}.get(m[1], m[1]), match[4])
        self._statements.append(_Statement(match[2], label, here, None, where, self._writer))

    def _end_of_stream(self) -> None:
        """Keep the pen stream that has come to its end, unless it is empty."""
        if self._keyword in _STREAMS and self._words:
            component = None
            try:
                values = np.array(parse_numbers(self._words, self._begin))
                if len(values) % len(self._axes):
                    raise DataError(
                        f"{self._begin}: .{self._keyword} with {len(values)} numbers, expected "
                        f"{len(self._axes)} for each point ({' '.join(self._axes)})"
                    )
                component = values.reshape(-1, len(self._axes))
            except DataError as error:
                self.on_damage(error)
            self._components.append(component)
            self._down.append(self._keyword == "PEN_DOWN")
        self._keyword, self._words = "", []

    def _end_of_set(self) -> Iterator[Segment]:
        for statement in self._statements:
            try:
                strokes = self._strokes(statement)
            except DataError as error:
                self.on_damage(error)
            else:
                yield Segment(
                    statement.label, strokes, self._axes, statement.writer, statement.where
                )
        self._components, self._down, self._statements = [], [], []

    def _strokes(self, statement: _Statement) -> list[Doubles]:
        strokes = []
        for number, start, stop in self._pieces(statement):
            component = self._components[number]
            if component is None:
                raise DataError(f"{statement.where}: component {number} is damaged")
            end = len(component) if stop is None else stop
            if not 0 <= start < end <= len(component):
                raise DataError(
                    f"{statement.where}: points {start} to {end - 1} of component {number}, "
                    f"expected a range below {len(component)}, the number of its points"
                )
            if self._down[number]:
                strokes.append(component[start:end])
        return strokes

    def _pieces(self, statement: _Statement) -> Iterator[tuple[int, int, int | None]]:
        """Yield components with the first point and the one behind the last; None for all."""
        total = len(self._components)
        if statement.delineation in (None, "?"):
            end = total if statement.end is None else statement.end
            yield from ((number, 0, None) for number in range(statement.first, end))
            return
        for text in statement.delineation.split(","):
            match = _RANGE.fullmatch(text)
            if match is None:
                raise DataError(
                    f"{statement.where}: {shortened(text)}, expected components such as 3 or "
                    "1:40-3 or 6:0-6:12"
                )
            first, last = int(match[1]), int(match[3] or match[1])
            if not first <= last < total:
                missing = f"; not found: .INCLUDE {self._missing[0]}" if self._missing else ""
                raise DataError(
                    f"{statement.where}: components {first} to {last}, expected a range below "
                    f"{total}, the number of components{missing}"
                )
            for number in range(first, last + 1):
                start = int(match[2] or 0) if number == first else 0
                stop = int(match[4]) + 1 if match[4] and number == last else None
                yield number, start, stop
