"""The binary files of Quick, Draw!

Records back to back, little-endian: uint64 key, 2 bytes country, int8 recognised (0 or 1), uint32
seconds since 1970, uint16 number of strokes; then for each stroke uint16 number of points n, n
bytes x, n bytes y.

Source:
    The Quick, Draw! Dataset, https://github.com/googlecreativelab/quickdraw-dataset.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage

_HEADER = struct.Struct("<Q2sbIH")
_COUNT = struct.Struct("<H")
_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


class BinaryDrawing(NamedTuple):
    """One drawing.

    Args:
        key: Its number in the data set.
        recognised: Whether the game guessed the word.
        strokes: For each stroke (row, column), float64, shape (T, 2).
        where: File name and byte offset, for errors.
    """

    key: int
    recognised: bool
    strokes: list[NDArray[np.float64]]
    where: str


def read_binary_drawings(path: Path, on_damage: OnDamage) -> Iterator[BinaryDrawing]:
    """Yield the drawings of a file. A record has no length, so damage ends the file."""
    try:
        with path.open("rb") as file:
            while (drawing := _read_drawing(file, path)) is not None:
                yield drawing
    except OSError as error:
        on_damage(DataError(f"{path}: cannot be read: {error}"))
    except DataError as error:
        on_damage(error)


def _read_drawing(file: BinaryIO, path: Path) -> BinaryDrawing | None:
    begin = file.tell()
    where = f"{path}: byte {begin}"
    head = file.read(_HEADER.size)
    if not head and begin:
        return None
    if len(head) < _HEADER.size:
        raise DataError(f"{where}: {len(head)} bytes left, expected a header of {_HEADER.size}")
    key, country, recognised, _, num_strokes = _HEADER.unpack(head)
    if recognised not in (0, 1) or not _LETTERS.issuperset(country):
        raise DataError(
            f"{where}: country {country!r} and recognised {recognised}, expected two capital "
            "letters and 0 or 1"
        )
    if num_strokes == 0:
        raise DataError(f"{where}: a drawing of 0 strokes, expected at least one")
    strokes = [_read_stroke(file, path) for _ in range(num_strokes)]
    return BinaryDrawing(key, bool(recognised), strokes, where)


def _read_stroke(file: BinaryIO, path: Path) -> NDArray[np.float64]:
    begin = file.tell()
    head = file.read(_COUNT.size)
    count = _COUNT.unpack(head)[0] if len(head) == _COUNT.size else 0
    body = file.read(2 * count)
    if count == 0 or len(body) < 2 * count:
        raise DataError(
            f"{path}: byte {begin}: a stroke of {count} points and {len(head) + len(body)} bytes, "
            f"expected at least one point and {2 + 2 * count} bytes"
        )
    columns, rows = np.frombuffer(body, np.uint8).reshape(2, count)
    return np.stack([rows, columns], axis=1).astype(np.float64)
