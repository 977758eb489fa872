"""Pendigits: the original pen strokes of UCI data set 81, read from files that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage, Piece, StrokeSource, refuse
from spcnn_lightning.datamodules.sources.files import read_file_bytes, stamp_of
from spcnn_lightning.datamodules.sources.pendigits_text import parse_unipen_digits
from spcnn_lightning.datamodules.sources.unix_compress import uncompress
from spcnn_lightning.datamodules.strokes import StrokeSet

ENDINGS = ("", ".gz", ".Z")
TRAIN_FILE, TEST_FILE = "pendigits-orig.tra", "pendigits-orig.tes"
TRAIN_DIGITS, TEST_DIGITS = 7_494, 3_498
TRAIN_WRITERS = 30
LARGEST_TEXT = 1 << 24
"""Bytes; the training file has 3.6 million."""


class Pendigits(StrokeSource):
    """Pen-Based Recognition of Handwritten Digits: raw strokes at 100 points a second.

    7,494 training digits by 30 writers and 3,498 test digits by 14 others. Writers 1 to 30 wrote
    the training part; the test file numbers its people from 1 again, here they are 31 to 44.

    Args:
        root: Folder with ``pendigits-orig.tra`` and ``pendigits-orig.tes`` as plain text, or packed
            as ``.gz`` or ``.Z``, in which UCI hands them out. Download:
            https://archive.ics.uci.edu/dataset/81

    Source:
        E. Alpaydin, F. Alimoglu, UCI data set 81, 1998, CC BY 4.0.
    """

    class_names = tuple("0123456789")
    citation = (
        "Alpaydin, Alimoglu (1998), Pen-Based Recognition of Handwritten Digits, UCI data set 81, "
        "doi:10.24432/C5MG6K; CC BY 4.0"
    )

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def check(self) -> None:
        """Raise `DataError` if one of the two files is missing."""
        for name in (TRAIN_FILE, TEST_FILE):
            _find(self.root, name)

    def train(self) -> StrokeSet:
        """Return the 7,494 training digits, writers 1 to 30."""
        return self._read("train", refuse)

    def test(self) -> StrokeSet:
        """Return the 3,498 test digits, writers 31 to 44."""
        return self._read("test", refuse)

    def pieces(self, part: str) -> Sequence[Piece]:
        """Return the part as one piece, which can leave damaged digits out."""
        stamp = stamp_of([_find(self.root, TRAIN_FILE if part == "train" else TEST_FILE)])
        return [Piece(part, lambda on_damage: iter([self._read(part, on_damage)]), stamp)]

    def _read(self, part: str, on_damage: OnDamage) -> StrokeSet:
        name, first_writer = (TRAIN_FILE, 0) if part == "train" else (TEST_FILE, TRAIN_WRITERS)
        path, damage = _find(self.root, name), []

        def remember(error: DataError) -> None:
            damage.append(error)
            on_damage(error)

        strokes = parse_unipen_digits(read_text(path), str(path), remember)
        digits = TRAIN_DIGITS if part == "train" else TEST_DIGITS
        if len(strokes) != digits and not damage:
            on_damage(
                DataError(
                    f"{path}: holds {len(strokes)} digits, the official file has {digits}: part of "
                    "it is missing or it is another file; get it again"
                )
            )
        assert strokes.writers is not None
        return replace(strokes, writers=strokes.writers + np.int32(first_writer))


def read_text(path: Path) -> str:
    """Return the text of a plain, .gz or .Z file, a character for each byte.

    Raises:
        DataError: If the file cannot be read or unpacked, or is longer than 16 MiB.
    """
    data = read_file_bytes(path, LARGEST_TEXT)
    if path.suffix == ".Z":
        data = uncompress(data, str(path), LARGEST_TEXT)
    return data.decode("latin-1")


def _find(root: Path, name: str) -> Path:
    for ending in ENDINGS:
        if (path := root / (name + ending)).is_file():
            return path
    raise DataError(
        f"{root / name} is missing, and so are {name}.gz and {name}.Z in {root.resolve()}: "
        "download the original strokes from https://archive.ics.uci.edu/dataset/81, put "
        f"{TRAIN_FILE} and {TEST_FILE} (plain, .gz or .Z) into one folder and name it as root"
    )
