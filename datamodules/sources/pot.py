"""The .pot files of CASIA-OLHWDB: one person's characters, back to back, little-endian.

====== ============== ==========================================================
offset type           meaning
====== ============== ==========================================================
0      uint16         size of the record in bytes, these two included
2      uint16, uint16 the GB code as an integer; 0
6      uint16         number of strokes
8      int16, int16   x and y (downwards) of each point; (-1, 0) ends a stroke,
                      (-1, -1) the character
====== ============== ==========================================================

The character with the GB code B0A1 is stored as A1 B0 00 00: the integer is what counts. A size and
its record can disagree only by damage, and the size leads to the next record.

Source:
    C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, CASIA online and offline Chinese handwriting
    databases, ICDAR 2011, and the description of the files that comes with them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.strokes import offsets_of

HEADER = 8
SMALLEST = HEADER + 3 * 4
"""Header, one point, the end of a stroke, the end of the character."""


class PotRecords(NamedTuple):
    """The sound records of a file, in its order.

    Args:
        codes: int64, shape (B,): the GB codes.
        starts: int64, shape (B,): the byte at which each begins.
        points: float32, shape (P, 2): row and column.
        point_offsets: int64, shape (S + 1,).
        stroke_offsets: int64, shape (B + 1,).
    """

    codes: NDArray[np.int64]
    starts: NDArray[np.int64]
    points: NDArray[np.float32]
    point_offsets: NDArray[np.int64]
    stroke_offsets: NDArray[np.int64]


def parse_pot(data: bytes, name: str, on_damage: OnDamage) -> PotRecords:
    """Return the characters of a file; strokes without points do not count.

    Args:
        data: The file.
        name: Its name, for errors.
        on_damage: Is told of each record that does not hold what its header says. A wrong size
            leads nowhere, so it ends the file.
    """
    pairs = np.frombuffer(data[: len(data) // 4 * 4], "<i2").reshape(-1, 2)
    starts = _record_starts(data, name, on_damage)
    pairs = pairs[: starts[-1]]
    bodies = _Bodies(pairs, starts)
    for index in np.flatnonzero(bodies.faults()):
        on_damage(DataError(f"{name}: byte {bodies.starts[index]}: {bodies.describe(int(index))}"))
    return bodies.records(~bodies.faults())


def _record_starts(data: bytes, name: str, on_damage: OnDamage) -> NDArray[np.int64]:
    """Return where records begin, in units of 4 bytes, and the end of the last."""
    starts, place = [0], 0
    if not data:
        on_damage(DataError(f"{name}: an empty file, expected records; get it again"))
    while place < len(data):
        size = int.from_bytes(data[place : place + 2], "little")
        if size < SMALLEST or size % 4 or place + size > len(data):
            on_damage(
                DataError(
                    f"{name}: byte {place}: a record of {size} bytes where {len(data) - place} are "
                    f"left, expected a multiple of 4 from {SMALLEST} on that fits: the file is cut "
                    "off or damaged"
                )
            )
            break
        place += size
        starts.append(place // 4)
    return np.array(starts, np.int64)


class _Bodies:
    """The records of a file as pairs of int16; the first two pairs of each are its header."""

    def __init__(self, pairs: NDArray[np.int16], starts: NDArray[np.int64]) -> None:
        self.pairs, self.count = pairs, len(starts) - 1
        self.record = np.repeat(np.arange(self.count), np.diff(starts))
        header = starts[:-1]
        self.starts = 4 * header
        unsigned = pairs.view(np.uint16)
        self.codes = unsigned[header, 1].astype(np.int64)
        self.zeros = unsigned[header + 1, 0]
        self.announced = unsigned[header + 1, 1].astype(np.int64)
        is_body = np.ones(len(pairs), bool)
        is_body[header] = is_body[header + 1] = False
        is_mark = is_body & (pairs[:, 0] == -1)
        is_end = is_mark & (pairs[:, 1] == -1)
        self.is_stroke_end = is_mark & (pairs[:, 1] == 0)
        self.is_point = is_body & ~is_end & ~self.is_stroke_end
        self.strokes = self._number_of(self.is_stroke_end)
        self.points = self._number_of(self.is_point)
        last = starts[1:] - 1
        self.ended = is_end[last] & self.is_stroke_end[last - 1] & (self._number_of(is_end) == 1)

    def faults(self) -> NDArray[np.bool_]:
        sound = self.ended & (self.strokes == self.announced) & (self.points > 0)
        return np.asarray(~sound | (self.zeros != 0))

    def describe(self, index: int) -> str:
        if self.zeros[index]:
            return f"bytes 4 and 5 of the record are {self.zeros[index]:#06x}, expected 0"
        if not self.ended[index]:
            return "expected ff ff 00 00 ff ff ff ff as the end of the record, and only there"
        return (
            f"{self.strokes[index]} strokes and {self.points[index]} points, expected "
            f"{self.announced[index]} strokes, as the header says, and at least one point"
        )

    def records(self, kept: NDArray[np.bool_]) -> PotRecords:
        where = np.flatnonzero(self.is_point & kept[self.record])
        record, stroke = self.record[where], np.cumsum(self.is_stroke_end)[where]
        # A stroke ends within its record, so its number alone tells it from its neighbours.
        first = np.flatnonzero(np.diff(stroke, prepend=-1))
        per_record = np.bincount(record[first], minlength=self.count)
        return PotRecords(
            self.codes[kept],
            self.starts[kept],
            self.pairs[where][:, [1, 0]].astype(np.float32),
            np.append(first, len(where)),
            offsets_of(per_record[kept]),
        )

    def _number_of(self, marked: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(self.record[marked], minlength=self.count).astype(np.int64)
