"""CasiaHWDB: photographed handwritten Chinese characters, in .gnt files that the user asks for.

Source:
    C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, CASIA online and offline Chinese handwriting
    databases, ICDAR 2011. The format of the files: see `gnt_files`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.pictures.base import PictureSource
from spcnn_lightning.datamodules.pictures.gnt_files import GntPictures, GntRecords, parse_gnt
from spcnn_lightning.datamodules.sources.casia_files import (
    CasiaFiles,
    Databases,
    TestSet,
    decode_gb,
)
from spcnn_lightning.datamodules.sources.class_table import level1_characters
from spcnn_lightning.datamodules.sources.files import read_file_bytes


class CasiaHWDB(PictureSource):
    """CASIA-HWDB 1.0, 1.1 and 1.2: the 3,755 characters of GB2312 level 1, and others by choice.

    1.1 has 1,172,907 pictures by 300 writers, 1,121,749 of them of level 1. Writers 1001 to 1240
    are the training part and 1241 to 1300 the test part, in folders of any name that does not say
    otherwise. For 1.0 and 1.2, a file's part follows from the folder that it lies in (any with
    train or trn, test or tst in its name, as HWDB1.0trn_gnt). A writer has one file; a second, say
    of an archive unpacked twice, is refused. Pictures have any size, ink is dark, paper is 255.

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
