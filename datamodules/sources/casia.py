"""CasiaOLHWDB: online handwritten Chinese characters, in .pot files that the user asks for.

Source:
    C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, CASIA online and offline Chinese handwriting
    databases, ICDAR 2011. The format of the files: see `pot`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.casia_files import (
    CasiaFiles,
    Databases,
    TestSet,
    decode_gb,
)
from spcnn_lightning.datamodules.sources.class_table import ClassTable, level1_characters
from spcnn_lightning.datamodules.sources.files import FileSource, read_file_bytes
from spcnn_lightning.datamodules.sources.pot import PotRecords, parse_pot
from spcnn_lightning.datamodules.strokes import Strokes, StrokeSet


class CasiaOLHWDB(FileSource):
    """CASIA-OLHWDB 1.0, 1.1 and 1.2: the 3,755 characters of GB2312 level 1, and others by choice.

    1.1 has 898,573 training characters by writers 1001 to 1240 and 224,559 test characters by 1241
    to 1300, in folders of any name that does not say otherwise. For 1.0 and 1.2, a file's part
    follows from the folder that it lies in (Pot1.0Train and Pot1.0Test as the archives are named,
    or any with train or trn, test or tst in its name). A writer has one file; a second, say of an
    archive unpacked twice, is refused.

    Args:
        root: A folder that holds the unpacked archives. They are not free to pass on; ask for them
            at http://www.nlpr.ia.ac.cn/databases/handwriting/Home.html
        databases: Which of "1.0", "1.1" and "1.2" to read.
        test_set: "official": the test writers of these databases. "competition": the set of the
            ICDAR-2013 competition, by 60 other people, in a folder with competition in its name.
        other_characters: Also read what is not in level 1, the 171 symbols and rarer characters, as
            classes after the 3,755, in the order of their codes; all files are read for that.

    Raises:
        ValueError: If a database is not known.

    Source:
        C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, ICDAR 2011; the competition: F. Yin, Q.-F. Wang,
        X.-Y. Zhang, C.-L. Liu, ICDAR 2013. For academic research, by agreement with the authors.
    """

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
        super().__init__(root)
        self.casia_files = CasiaFiles(self.root, ".pot", databases, test_set)
        self.other_characters = other_characters

    @cached_property
    def table(self) -> ClassTable:
        """The classes: level 1, then what else the training files hold if it is wanted."""
        names = level1_characters()
        if self.other_characters:
            names = tuple(dict.fromkeys([*names, *self.discover_classes(lambda _: None)]))
        return ClassTable(list(names), lambda _: (), str(self.root))

    def discover_classes(self, on_damage: OnDamage) -> list[str]:
        """Return all characters of the training part, in the order of their codes."""
        codes: set[int] = set()
        for path in self.files("train"):
            codes.update(parse_pot(read_file_bytes(path), str(path), on_damage).codes.tolist())
        characters = (decode_gb(code) for code in sorted(codes))
        return [character for character in characters if character is not None]

    def files(self, part: str) -> list[Path]:
        """Return the files of the writers of ``part``."""
        return self.casia_files.of_part(part)

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the characters of a file one by one."""
        for strokes in self.read_files([path], part, on_damage):
            yield from (strokes[index] for index in range(len(strokes)))

    def read_files(
        self, files: Sequence[Path], part: str, on_damage: OnDamage
    ) -> Iterator[StrokeSet]:
        """Yield the characters of each file."""
        for path in files:
            try:
                data = read_file_bytes(path)
            except DataError as error:
                on_damage(error)
                continue
            records = parse_pot(data, str(path), on_damage)
            labels = self._labels(records, path, on_damage)
            everything = StrokeSet(
                records.points,
                records.point_offsets,
                records.stroke_offsets,
                np.maximum(labels, 0),
                np.full(len(labels), self.casia_files.writer_of(path), np.int32),
            )
            yield everything.select(np.flatnonzero(labels >= 0))

    def _labels(self, records: PotRecords, path: Path, on_damage: OnDamage) -> NDArray[np.int64]:
        """Return the class of each record, -1 for one that is left out."""
        codes, place = np.unique(records.codes, return_inverse=True)
        characters = [decode_gb(code) for code in codes.tolist()]
        numbers = [self.table.number(name, str(path)) if name else None for name in characters]
        labels = np.array([-1 if n is None else n for n in numbers], np.int64)[place]
        for index in np.flatnonzero(labels < 0):
            where = f"{path}: byte {records.starts[index]}"
            if (name := characters[place[index]]) is None:
                code = records.codes[index]
                on_damage(DataError(f"{where}: the code {code:#06x} is no character of GB18030"))
            elif self.other_characters:
                on_damage(DataError(f"{where}: {name!r} is not among the training characters"))
        return labels
