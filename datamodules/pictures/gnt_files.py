"""The .gnt files of CASIA-HWDB: one person's characters, back to back, little-endian.

====== ============== ==========================================================
offset type           meaning
====== ============== ==========================================================
0      uint32         size of the record in bytes, these four included
4      2 bytes        the character in GB code, B0 A1 for B0A1; ASCII and 0
6      uint16         width w
8      uint16         height h
10     w * h bytes    grey values row by row, 255 for paper
====== ============== ==========================================================

Source:
    C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, CASIA online and offline Chinese handwriting
    databases, ICDAR 2011, and the description of the files that comes with them.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import Picture

_HEADER = struct.Struct("<I2sHH")


class GntRecords(NamedTuple):
    """Where the pictures of a file lie.

    Args:
        codes: The GB code of each, int64, shape (B,).
        starts: The byte where the grey values begin, int64, shape (B,).
        shapes: Height and width, int64, shape (B, 2).
    """

    codes: NDArray[np.int64]
    starts: NDArray[np.int64]
    shapes: NDArray[np.int64]


def parse_gnt(data: bytes, name: str) -> GntRecords:
    """Return where the pictures of a file lie.

    Args:
        data: The file.
        name: Its name, for errors.

    Raises:
        DataError: At a record whose size is not that of its picture, or goes beyond the file.
    """
    found: list[tuple[int, int, int, int]] = []
    place = 0
    while place < len(data) or not found:
        left = len(data) - place
        if left < _HEADER.size:
            raise DataError(
                f"{name}: byte {place}: {left} bytes left, expected a header of {_HEADER.size}: "
                "the file is cut off or damaged"
            )
        size, code, width, height = _HEADER.unpack_from(data, place)
        if size != _HEADER.size + width * height or not width * height or size > left:
            raise DataError(
                f"{name}: byte {place}: a record of {size} bytes with {width} x {height} pixels "
                f"where {left} bytes are left, expected {_HEADER.size} bytes more than pixels: "
                "the file is cut off or damaged"
            )
        found.append((int.from_bytes(code, "big"), place + _HEADER.size, height, width))
        place += size
    table = np.array(found, np.int64)
    return GntRecords(table[:, 0], table[:, 1], table[:, 2:])


class GntPictures:
    """Pictures that stay in their files until they are asked for.

    Args:
        paths: The files.
        file: Which of them each picture is in, shape (B,).
        starts: The byte where its grey values begin, shape (B,).
        shapes: Height and width, shape (B, 2).
        labels: Class numbers, shape (B,).
        writers: Who wrote each, shape (B,).
    """

    channels = 1

    def __init__(
        self,
        paths: list[Path],
        file: NDArray[np.int64],
        starts: NDArray[np.int64],
        shapes: NDArray[np.int64],
        labels: NDArray[np.int64],
        writers: NDArray[np.int32],
    ) -> None:
        self.paths, self.file, self.starts, self.shapes = paths, file, starts, shapes
        self.labels, self.writers = labels, writers

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: ArrayLike) -> list[Picture]:
        """Read the pictures at ``indices``.

        Raises:
            DataError: If a file cannot be read any more.
        """
        return [self._read(index) for index in np.asarray(indices, np.int64).tolist()]

    def _read(self, index: int) -> Picture:
        path, start = self.paths[self.file[index]], int(self.starts[index])
        height, width = self.shapes[index].tolist()
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read(height * width)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if len(data) != height * width:
            raise DataError(
                f"{path}: byte {start}: {len(data)} bytes left, expected {height * width}: the "
                "file has changed since it was opened"
            )
        return np.frombuffer(data, np.uint8).reshape(height, width, 1)
