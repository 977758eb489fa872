"""CASIA's files: which writers they are of, and which part they belong to.

Source:
    C.-L. Liu, F. Yin, D.-H. Wang, Q.-F. Wang, CASIA online and offline Chinese handwriting
    databases, ICDAR 2011.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.files import find_files

Databases = Sequence[Literal["1.0", "1.1", "1.2"]]
TestSet = Literal["official", "competition"]

DATABASES = {"1.0": range(1, 421), "1.1": range(1001, 1301), "1.2": range(501, 801)}
"""Numbers of the writers, after which the files are named; online and offline alike."""

COMPETITION_WRITERS = 2000
"""Added to the numbers of the people of the competition."""

TEST_WRITERS_OF_1_1 = range(1241, 1301)
# As the beginning of a word: "latest" is no test.
_TRAIN_FOLDER = re.compile(r"(?<![a-z])(?i:train|trn)|Train|Trn")
_TEST_FOLDER = re.compile(r"(?<![a-z])(?i:te?st)|Te?st")
_COMPETITION = re.compile(r"competition", re.IGNORECASE)
_WRITER = re.compile(r"\D*(\d+)\D*")


class CasiaFiles:
    """The files of some writers, below a folder.

    Args:
        root: The folder.
        ending: What the files end in: ".pot" or ".gnt".
        databases: Which of "1.0", "1.1" and "1.2" to read.
        test_set: "official", or "competition" for that of ICDAR 2013.

    Raises:
        ValueError: If a database or the test set is not known.
    """

    def __init__(self, root: Path, ending: str, databases: Databases, test_set: TestSet) -> None:
        if not databases or not set(databases) <= set(DATABASES):
            raise ValueError(f"databases are {databases}, expected some of {', '.join(DATABASES)}")
        if test_set not in ("official", "competition"):
            raise ValueError(f"test_set is {test_set!r}, expected 'official' or 'competition'")
        self.root, self.ending = root, ending
        self.databases, self.test_set = tuple(databases), test_set

    def of_part(self, part: str) -> list[Path]:
        """Return the files of the writers of ``part``, sorted.

        Raises:
            DataError: If there is none, it is not known which part a file belongs to, a writer
                has two files, or one of database 1.1 lies in a folder of the other part.
        """
        patterns = (f"**/*{self.ending}", f"**/*{self.ending.upper()}")
        found = find_files(self.root, patterns, f"the unpacked {self.ending} files")
        if part == "test" and self.test_set == "competition":
            chosen = asked = [path for path in found if self._is_competition(path)]
        else:
            asked = [path for path in found if self._is_asked(path)]
            chosen = [path for path in asked if self._part_of(path) == part]
        self._require_one_each(asked)
        if not chosen:
            raise DataError(
                f"{self.root}: none of {len(found)} {self.ending} files is of the {part} part of "
                f"database {', '.join(self.databases)} (test_set={self.test_set!r}): unpack the "
                "archives there, each into a folder of its name"
            )
        return chosen

    def writer_of(self, path: Path) -> int:
        """Return the writer's number; people of the competition follow those of the databases."""
        return _number_of(path) + (COMPETITION_WRITERS if self._is_competition(path) else 0)

    def _is_asked(self, path: Path) -> bool:
        writer = _number_of(path)
        return not self._is_competition(path) and any(
            writer in DATABASES[name] for name in self.databases
        )

    def _part_of(self, path: Path) -> str:
        folders = path.relative_to(self.root).parent.parts
        is_test = any(_TEST_FOLDER.search(name) for name in folders)
        is_train = any(_TRAIN_FOLDER.search(name) for name in folders)
        named = "" if is_test == is_train else "test" if is_test else "train"
        if (writer := _number_of(path)) not in DATABASES["1.1"]:
            if named:
                return named
            raise DataError(
                f"{path}: of the training or the test part? Put it into a folder with train or "
                "test in its name, as the archives have it"
            )
        official = "test" if writer in TEST_WRITERS_OF_1_1 else "train"
        if named not in ("", official):
            raise DataError(
                f"{path} lies in a folder of the {named} part, but writer {writer} of database 1.1 "
                f"is of the {official} part: rename the folder, or move the file"
            )
        return official

    def _require_one_each(self, paths: list[Path]) -> None:
        first: dict[int, Path] = {}
        for path in paths:
            if (other := first.setdefault(self.writer_of(path), path)) != path:
                raise DataError(
                    f"{other} and {path} are of the same writer, whose characters would count "
                    "twice: remove one of them"
                )

    def _is_competition(self, path: Path) -> bool:
        return bool(_COMPETITION.search(path.relative_to(self.root).as_posix()))


def decode_gb(code: int) -> str | None:
    """Return the character of a GB code, None if there is none; ASCII has one byte that is not 0.

    >>> decode_gb(0xB0A1), decode_gb(0x41), decode_gb(0x4100)
    ('啊', 'A', 'A')
    """
    data = code.to_bytes(2, "big").strip(b"\0")
    try:
        character = data.decode("gb18030")
    except UnicodeDecodeError:
        return None
    return character if len(character) == 1 else None


def _number_of(path: Path) -> int:
    if not (match := _WRITER.fullmatch(path.stem)) or int(match[1]) > COMPETITION_WRITERS:
        raise DataError(f"{path}: expected the number of a writer as name, as in 1001{path.suffix}")
    return int(match[1])
