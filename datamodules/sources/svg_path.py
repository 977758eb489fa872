"""The paths of SVG pictures as polylines."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.parsing import LARGEST_COORDINATE, require_range, shortened

Doubles = NDArray[np.float64]

POINTS_PER_CURVE = 8
_TOKEN = re.compile(r"[a-zA-Z]|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BETWEEN = re.compile(r"[\s,]*")
_NUMBERS = {"m": 2, "l": 2, "c": 6, "s": 4, "h": 1, "v": 1}
"""How many numbers each command takes; capital letters mean absolute coordinates."""


def path_points(path: str, where: str) -> Doubles:
    """Return points on a path of lines and cubic Bezier curves.

    Args:
        path: The ``d`` of an SVG path: one M, and L, H, V, C and S, relative or absolute.
        where: Begins the errors.

    Returns:
        float64, shape (T, 2), x and y: the ends of lines, and 8 points on each curve.

    Raises:
        DataError: If something else stands in the path.

    Source:
        W3C, Scalable Vector Graphics 1.1, section 8.3.
    """
    position, control = np.zeros(2), np.zeros(2)
    pieces: list[Doubles] = []
    for command, numbers in _commands(path, where):
        absolute, kind = command.isupper(), command.lower()
        if (kind == "m") != (not pieces):
            raise DataError(f"{where}: path {path[:40]!r}, expected one M, at the beginning")
        if kind in "hv":
            ends = position.copy() if absolute else np.zeros(2)
            ends[int(kind == "v")] = numbers[0]
        else:
            ends = numbers.reshape(-1, 2)
        ends = np.atleast_2d(ends if absolute else ends + position)
        if kind in "cs":
            first = ends[0] if kind == "c" else 2 * position - control
            control, end = ends[-2], ends[-1]
            pieces.append(_curve(position, first, control, end))
        else:
            control = end = ends[-1]
            pieces.append(ends)
        position = end
    if not pieces:
        raise DataError(f"{where}: an empty path, expected M and more")
    return np.concatenate(pieces)


def _commands(path: str, where: str) -> Iterator[tuple[str, Doubles]]:
    """Yield each command with its numbers; a command repeats while numbers follow."""
    tokens = _tokens(path, where)
    place = 0
    while place < len(tokens):
        command = tokens[place]
        count = _NUMBERS.get(command.lower())
        if count is None:
            raise DataError(f"{where}: {command!r} in a path, expected one of MLHVCS")
        place += 1
        while True:
            words = tokens[place : place + count]
            if len(words) < count or any(word.isalpha() for word in words):
                raise DataError(
                    f"{where}: {command!r} with {shortened(words)}, expected {count} numbers"
                )
            numbers = np.array(words, np.float64)
            require_range(numbers, LARGEST_COORDINATE, "number in a path", where)
            yield command, numbers
            place += count
            if place == len(tokens) or tokens[place].isalpha():
                break
            command = {"M": "L", "m": "l"}.get(command, command)


def _tokens(path: str, where: str) -> list[str]:
    place, tokens = _BETWEEN.match(path).end(), []  # type: ignore[union-attr]
    while place < len(path):
        if not (match := _TOKEN.match(path, place)):
            raise DataError(f"{where}: {path[place : place + 10]!r} in a path, expected a number")
        tokens.append(match[0])
        place = _BETWEEN.match(path, match.end()).end()  # type: ignore[union-attr]
    return tokens


def _curve(start: Doubles, first: Doubles, second: Doubles, end: Doubles) -> Doubles:
    """Return the points at t = 1/8, 2/8, ... 1 of a cubic Bezier curve."""
    t = np.arange(1, POINTS_PER_CURVE + 1)[:, None] / POINTS_PER_CURVE
    s = 1 - t
    return s**3 * start + 3 * s**2 * t * first + 3 * s * t**2 * second + t**3 * end
