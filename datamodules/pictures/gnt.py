"""CasiaHWDB: photographed handwritten Chinese characters, in .gnt files that the user asks for.

A file is one person's characters, back to back, little-endian.

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
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import Picture, PictureSource
from spcnn_lightning.datamodules.sources.casia_files import (
    CasiaFiles,
    Databases,
    TestSet,
    decode_gb,
)
from spcnn_lightning.datamodules.sources.class_table import level1_characters
from spcnn_lightning.datamodules.sources.files import read_file_bytes

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


class CasiaHWDB(PictureSource):
    """CASIA-HWDB 1.0, 1.1 and 1.2: the 3,755 characters of GB2312 level 1, and others by choice.

    1.1 has 1,172,907 pictures by 300 writers, 1,121,749 of them of level 1. Writers 1001 to 1240
    are the training part and 1241 to 1300 the test part. A file's part follows from the folder that
    it lies in (any with train or trn, test or tst in its name, as HWDB1.1trn_gnt), and for 1.1 from
    the number of the writer as well. Pictures have any size, ink is dark, and paper is 255.

    Args:
        root: A folder that holds the unpacked archives. They are not free to pass on; ask for them
            at http://www.nlpr.ia.ac.cn/databases/handwriting/Home.html
        databases: Which of "1.0", "1.1" and "1.2" to read.
        test_set: "official": the test writers of these databases. "competition": the set of the
            ICDAR-2013 competition, by 60 other people, in a folder with competition in its name.
        other_characters: Also read what is not in level 1, the 171 symbols and rarer characters, as
            classes after the 3,755, in the order of their codes; all files are looked into then.

    Raises:
        ValueError: If a database is not known.

    Source:
        C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, ICDAR 2011. For academic research, by agreement
        with the authors.
    """

    channels = 1
    background = 255.0
    citation = (
        "Liu, Yin, Wang, Wang (2011), CASIA Online and Offline Chinese Handwriting Databases; "
        "for academic research, by agreement with the authors"
    )

    def __init__(
        self,
        root: str | Path,
        databases: Databases = ("1.1",),
        test_set: TestSet = "official",
        other_characters: bool = False,
    ) -> None:
        self.root, self.other_characters = Path(root), other_characters
        self.casia_files = CasiaFiles(self.root, ".gnt", databases, test_set)

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Level 1, then what else the training files hold if it is wanted."""
        names = level1_characters()
        if not self.other_characters:
            return names
        codes = {code for records in self._records("train") for code in records.codes.tolist()}
        characters = (decode_gb(code) for code in sorted(codes))
        return tuple(dict.fromkeys([*names, *(name for name in characters if name is not None)]))

    def check(self) -> None:
        """Raise `DataError` if there are no training files."""
        self.casia_files.of_part("train")

    def train(self) -> GntPictures:
        """Return the training part."""
        return self._read("train")

    def test(self) -> GntPictures:
        """Return the test part."""
        return self._read("test")

    def _records(self, part: str) -> list[GntRecords]:
        paths = self.casia_files.of_part(part)
        return [parse_gnt(read_file_bytes(path), str(path)) for path in paths]

    def _read(self, part: str) -> GntPictures:
        paths, records = self.casia_files.of_part(part), self._records(part)
        numbers = {name: number for number, name in enumerate(self.class_names)}
        labels = [
            self._labels(found, path, numbers) for found, path in zip(records, paths, strict=True)
        ]
        kept = np.concatenate(labels) >= 0
        if not kept.any():
            raise DataError(f"{self.root}: no character of the {part} part is of a known class")
        counts = [len(some) for some in labels]
        writers = [self.casia_files.writer_of(path) for path in paths]
        return GntPictures(
            paths,
            np.repeat(np.arange(len(paths)), counts)[kept],
            np.concatenate([found.starts for found in records])[kept],
            np.concatenate([found.shapes for found in records])[kept],
            np.concatenate(labels)[kept],
            np.repeat(np.array(writers, np.int32), counts)[kept],
        )

    def _labels(
        self, records: GntRecords, path: Path, numbers: dict[str, int]
    ) -> NDArray[np.int64]:
        """Return the class of each picture, -1 for one that is left out."""
        codes, first, place = np.unique(records.codes, return_index=True, return_inverse=True)
        labels = []
        for code, index in zip(codes.tolist(), first.tolist(), strict=True):
            character, where = decode_gb(code), f"{path}: byte {records.starts[index] - 6}"
            if character is None:
                raise DataError(f"{where}: the code {code:#06x} is no character of GB18030")
            label = numbers.get(character)
            if label is None and self.other_characters:
                raise DataError(f"{where}: {character!r} is not among the training characters")
            labels.append(-1 if label is None else label)
        return np.array(labels, np.int64)[place]
