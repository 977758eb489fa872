"""Pen strokes: one character (`Strokes`) and a whole data set in flat arrays (`StrokeSet`).

Axis 0 of a point is the row, growing downwards; axis 1 is the column, growing to the right: the
order of the axes of a field. Readers of files whose y axis points upwards turn it round. The unit
is whatever the pen recorded: rasterising normalises the size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import InitVar, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Strokes:
    """One character as the path of the pen.

    Args:
        points: float32, shape (n, 2): row (downwards) and column of each pen point, in pen units.
        point_offsets: int64, shape (S + 1,): stroke s is ``points[offsets[s]:offsets[s + 1]]``.
        label: Class number, from 0.
        writer: Number of the person who wrote it, if known.
        time: float32, shape (n,): milliseconds, if recorded.
        pressure: float32, shape (n,), if recorded.

    Raises:
        ValueError: If a shape or offset does not fit or a number is not finite.
    """

    points: Floats
    point_offsets: Integers
    label: int
    writer: int | None = None
    time: Floats | None = None
    pressure: Floats | None = None

    def __post_init__(self) -> None:
        _convert(self, np.int64, "point_offsets")
        _convert(self, np.float32, "points", "time", "pressure")
        _check_shape(self.points)
        _check_offsets("point_offsets", self.point_offsets, len(self.points), "stroke", "points")
        _check_finite(self.points)
        _check_per_point(self, len(self.points))

    @property
    def num_strokes(self) -> int:
        """Number of strokes, S."""
        return len(self.point_offsets) - 1

    def __iter__(self) -> Iterator[Floats]:
        """Yield the points of each stroke in writing order, shape (T, 2)."""
        for start, end in zip(self.point_offsets[:-1], self.point_offsets[1:], strict=True):
            yield self.points[start:end]

    @staticmethod
    def from_lists(strokes: Iterable[ArrayLike], label: int, writer: int | None = None) -> Strokes:
        """Build a character from one (row, column) list per stroke.

        >>> Strokes.from_lists([[(0, 0), (4, 0)], [(2, 2)]], label=1).num_strokes
        2
        """
        arrays = [np.asarray(stroke, np.float32).reshape(-1, 2) for stroke in strokes]
        points = np.concatenate(arrays) if arrays else np.zeros((0, 2), np.float32)
        return Strokes(points, offsets_of([len(a) for a in arrays]), label, writer)


@dataclass(frozen=True, eq=False)
class StrokeSet:
    """Many characters in flat arrays: cheap to index, to hand to workers and to map from disk.

    Args:
        points: float32, shape (P, 2): row (downwards) and column, in pen units.
        point_offsets: int64, shape (S + 1,): first point of each stroke, then P.
        stroke_offsets: int64, shape (B + 1,): first stroke of each character, then S.
        labels: int64, shape (B,): class numbers from 0.
        writers: int32, shape (B,), if known.
        time: float32, shape (P,): milliseconds, if recorded.
        pressure: float32, shape (P,), if recorded.
        validate: Check everything below. Only code that built the arrays from a valid set should
            switch it off.

    Raises:
        ValueError: If shapes or offsets do not fit together, a stroke has no point, a character
            no stroke, a label is negative, or a number is not finite.
    """

    points: Floats
    point_offsets: Integers
    stroke_offsets: Integers
    labels: Integers
    writers: NDArray[np.int32] | None = None
    time: Floats | None = None
    pressure: Floats | None = None
    validate: InitVar[bool] = True

    def __post_init__(self, validate: bool) -> None:
        _convert(self, np.int64, "point_offsets", "stroke_offsets", "labels")
        _convert(self, np.int32, "writers")
        _convert(self, np.float32, "points", "time", "pressure")
        if validate:
            self._check()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Strokes:
        """Return one character; negative numbers count from the end."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"character {index} of a set of {len(self)}")
        one = self.select([index % len(self)])
        return Strokes(
            one.points,
            one.point_offsets,
            int(one.labels[0]),
            None if one.writers is None else int(one.writers[0]),
            one.time,
            one.pressure,
        )

    def select(self, indices: ArrayLike) -> StrokeSet:
        """Return the characters at ``indices``, in that order; repeats are allowed."""
        chosen = np.asarray(indices, np.int64).reshape(-1)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(
                f"characters {chosen.min()} to {chosen.max()} asked of a set of {len(self)}"
            )
        strokes, stroke_offsets = gather_ranges(self.stroke_offsets, chosen)
        points, point_offsets = gather_ranges(self.point_offsets, strokes)
        return StrokeSet(
            self.points[points],
            point_offsets,
            stroke_offsets,
            self.labels[chosen],
            None if self.writers is None else self.writers[chosen],
            None if self.time is None else self.time[points],
            None if self.pressure is None else self.pressure[points],
            validate=False,
        )

    @staticmethod
    def from_strokes(characters: Iterable[Strokes]) -> StrokeSet:
        """Join single characters; what only some of them have (writer, time...) is an error."""
        chars = list(characters)
        if not chars:
            raise ValueError("no characters given: a StrokeSet cannot tell what it would hold")
        writers = _all_or_none("writer", [c.writer for c in chars])
        time = _all_or_none("time", [c.time for c in chars])
        pressure = _all_or_none("pressure", [c.pressure for c in chars])
        lengths = np.concatenate([np.diff(c.point_offsets) for c in chars])
        return StrokeSet(
            np.concatenate([c.points for c in chars]),
            offsets_of(lengths),
            offsets_of([c.num_strokes for c in chars]),
            np.array([c.label for c in chars], np.int64),
            None if writers is None else np.array(writers, np.int32),
            None if time is None else np.concatenate(time),
            None if pressure is None else np.concatenate(pressure),
        )

    def _check(self) -> None:
        _check_shape(self.points)
        strokes = len(self.point_offsets) - 1
        _check_offsets("point_offsets", self.point_offsets, len(self.points), "stroke", "points")
        _check_offsets("stroke_offsets", self.stroke_offsets, strokes, "character", "strokes")
        characters = len(self.stroke_offsets) - 1
        for name in ("labels", "writers"):
            values = getattr(self, name)
            if values is not None and values.shape != (characters,):
                raise ValueError(
                    f"{name} have shape {values.shape}, expected ({characters},): one for each "
                    "character of stroke_offsets"
                )
        if characters and self.labels.min() < 0:
            where = int(self.labels.argmin())
            raise ValueError(f"labels[{where}] is {self.labels[where]}: class numbers start at 0")
        _check_finite(self.points, self.point_offsets[self.stroke_offsets])
        _check_per_point(self, len(self.points))


def offsets_of(lengths: ArrayLike) -> Integers:
    """Return the first position of each part, and the end: int64, shape (parts + 1,)."""
    sizes = np.asarray(lengths, np.int64).reshape(-1)
    offsets = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets


def gather_ranges(offsets: Integers, parts: Integers) -> tuple[Integers, Integers]:
    """Return the positions of all items of ``parts``, and the offsets of the parts in them."""
    starts = offsets[parts]
    new_offsets = offsets_of(offsets[parts + 1] - starts)
    shifts = np.repeat(starts - new_offsets[:-1], np.diff(new_offsets))
    return np.arange(new_offsets[-1]) + shifts, new_offsets


def _convert(holder: Strokes | StrokeSet, dtype: type[np.generic], *names: str) -> None:
    for name in names:
        if (value := getattr(holder, name)) is not None:
            object.__setattr__(holder, name, np.asarray(value, dtype))


def _all_or_none(name: str, values: list[T | None]) -> list[T] | None:
    missing = sum(value is None for value in values)
    if missing not in (0, len(values)):
        raise ValueError(
            f"{missing} of {len(values)} characters have no {name}: give it to all or to none"
        )
    return None if missing else [value for value in values if value is not None]


def _check_shape(points: Floats) -> None:
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points have shape {points.shape}, expected (n, 2): row and column")


def _check_finite(points: Floats, characters: Integers | None = None) -> None:
    """Refuse NaN and infinity; ``characters`` are the first points of each character of a set."""
    finite = np.isfinite(points).all(axis=1)
    if not finite.all():
        where = int(np.flatnonzero(~finite)[0])
        of = ""
        if characters is not None:
            of = f" (of character {int(np.searchsorted(characters, where, side='right')) - 1})"
        raise ValueError(
            f"points[{where}]{of} is {points[where].tolist()}; {int((~finite).sum())} of "
            f"{len(points)} points are not finite: clean the data first"
        )


def _check_offsets(name: str, offsets: Integers, end: int, part: str, items: str) -> None:
    if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or offsets[-1] != end:
        ends = offsets[[0, -1]].tolist() if offsets.ndim == 1 and len(offsets) else "nothing"
        raise ValueError(
            f"{name} has shape {offsets.shape} and runs from and to {ends}, expected a list from "
            f"0 to the number of {items}, {end}"
        )
    if (np.diff(offsets) <= 0).any():
        where = int(np.flatnonzero(np.diff(offsets) <= 0)[0])
        raise ValueError(
            f"{name}[{where}] is {offsets[where]} and the next is {offsets[where + 1]}: every "
            f"{part} needs at least one of the {items}, so offsets must grow"
        )


def _check_per_point(holder: Strokes | StrokeSet, length: int) -> None:
    for name in ("time", "pressure"):
        values = getattr(holder, name)
        if values is not None and (values.shape != (length,) or not np.isfinite(values).all()):
            raise ValueError(
                f"{name} has shape {values.shape}, expected ({length},) finite numbers: one for "
                "each point"
            )
