"""Strict reading of numbers and JSON, and building a character from what was read."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.strokes import Strokes, offsets_of

Doubles = NDArray[np.float64]

LARGEST_COORDINATE = 1e7
"""Beyond it float32 no longer tells neighbouring integers apart."""
LARGEST_TIME = 1e15
"""Milliseconds; about 30,000 years."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def parse_numbers(words: Iterable[str], where: str) -> list[float]:
    """Return the numbers that the words are; none of "nan", "1_000" or "٣" is one.

    Raises:
        DataError: At a word that is no number.
    """
    values = []
    for word in words:
        if not _NUMBER.fullmatch(word):
            raise DataError(f"{where}: {shortened(word)}, expected a number")
        values.append(float(word))
    return values


def parse_json(text: str, where: str) -> Any:
    """Return what a JSON text says.

    Raises:
        DataError: If it is no JSON, or holds NaN or Infinity.
    """

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is no JSON")

    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise DataError(f"{where}: lists inside lists without end") from error
    except json.JSONDecodeError as error:
        message = f"{error.msg} at character {error.pos}"
        raise DataError(f"{where}: no JSON: {message}") from error
    except ValueError as error:
        raise DataError(f"{where}: no JSON: {error}") from error


def json_array(value: Any, where: str, what: str) -> Doubles:
    """Return a list from a JSON text, of numbers or of lists of equally many numbers.

    Raises:
        DataError: If it is anything else; ``what`` says what was expected.
    """
    try:
        array = np.asarray(value) if isinstance(value, list) else None
    except (ValueError, OverflowError):
        array = None
    if array is None or (array.size and array.dtype.kind not in "iuf") or _holds_bool(value):
        raise DataError(f"{where}: {shortened(value)}, expected {what}")
    return array.astype(np.float64)


def _holds_bool(values: list[Any]) -> bool:
    """Return whether true or false is among numbers, where NumPy takes it for 1 or 0."""
    rows = (value if isinstance(value, list) else (value,) for value in values)
    return bool in set(map(type, chain.from_iterable(rows)))


def json_field(record: Any, name: str, kind: type, where: str) -> Any:
    """Return a field of a JSON object.

    Raises:
        DataError: If ``record`` is no object, or the field is missing or of another type.
    """
    value = record.get(name) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) > (kind is bool):
        raise DataError(f"{where}: field {name!r} is {shortened(value)}, expected {kind.__name__}")
    return value


def build_character(
    strokes: Sequence[Doubles],
    label: int,
    writer: int | None = None,
    *,
    time: Sequence[Doubles] | None = None,
    pressure: Sequence[Doubles] | None = None,
    where: str,
) -> Strokes:
    """Join strokes to a character; strokes without points do not count.

    Args:
        strokes: For each stroke (row, column), shape (T, 2).
        label: Class number.
        writer: Number of the person.
        time: For each stroke milliseconds since any moment, shape (T,). The first point of the
            character becomes 0: float32 cannot hold the milliseconds of a calendar date.
        pressure: For each stroke, shape (T,).
        where: Begins the errors.

    Raises:
        DataError: If there is no point, or a number is not finite or too large.
    """
    kept = [index for index, stroke in enumerate(strokes) if len(stroke)]
    if not kept:
        raise DataError(f"{where}: a character without a point, expected at least one stroke")
    points = np.concatenate([strokes[index] for index in kept])
    require_range(points, LARGEST_COORDINATE, "coordinate", where)
    times = None
    if time is not None:
        times = np.concatenate([time[index] for index in kept])
        require_range(times, LARGEST_TIME, "time", where)
        times = times - times[0]
    pressures = None
    if pressure is not None:
        pressures = np.concatenate([pressure[index] for index in kept])
        require_range(pressures, LARGEST_COORDINATE, "pressure", where)
    lengths = [len(strokes[index]) for index in kept]
    return Strokes(
        points.astype(np.float32),
        offsets_of(lengths),
        label,
        writer,
        None if times is None else times.astype(np.float32),
        None if pressures is None else pressures.astype(np.float32),
    )


def require_range(values: Doubles, limit: float, what: str, where: str) -> None:
    """Raise `DataError` unless all numbers are finite and at most ``limit`` in size."""
    bad = ~(np.abs(values) <= limit)
    if bad.any():
        raise DataError(f"{where}: {what} {values[bad][0]:g}, expected at most {limit:g} in size")


def writer_number(name: str) -> int:
    """Return a number for a writer who has a name: 31 bits of its CRC-32, the same everywhere."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def shortened(value: Any) -> str:
    """Return what was found, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
