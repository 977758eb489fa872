"""FileSource: a data set in files that the user names, read one after the other."""

from __future__ import annotations

import gzip
import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar, cast

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.joining import concatenate
from spcnn_lightning.datamodules.sources.base import OnDamage, Piece, StrokeSource, refuse
from spcnn_lightning.datamodules.sources.class_table import Classes, ClassTable
from spcnn_lightning.datamodules.strokes import Strokes, StrokeSet

T = TypeVar("T")

CHARACTERS_AT_A_TIME = 1_000
LONGEST_LINE = 1 << 24
LARGEST_FILE = 1 << 28
"""Most bytes of a file that is read whole; a larger one is not what it should be."""

_BLOCK = 1 << 20


class FileSource(StrokeSource):
    """A data set in files: a subclass names the files of a part and reads one of them.

    Args:
        root: The folder or file that holds the data.
        classes: Which characters to read: their names, or the first n of GB2312 level 1. None: all
            classes that there are.
    """

    files_per_piece = 1
    """How many files make a piece; more where files are tiny."""

    def __init__(self, root: str | Path, classes: Classes = None) -> None:
        self.root, self.classes = Path(root), classes

    @cached_property
    def table(self) -> ClassTable:
        """The classes; files are looked into unless the user chose some."""
        return ClassTable(self.classes, self.discover_classes, str(self.root))

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A name for each class."""
        return self.table.names

    @abstractmethod
    def discover_classes(self, on_damage: OnDamage) -> Iterable[str]:
        """Return the names of all classes in any order; repeats do no harm.

        ``on_damage`` is told of what cannot be read, where names may have been lost.
        """

    @abstractmethod
    def files(self, part: str) -> list[Path]:
        """Return the files of ``part`` in a fixed order; `DataError` if there is none."""

    @abstractmethod
    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the characters of ``part`` that one of its files holds."""

    def check(self) -> None:
        """Raise `DataError` if there are no training files."""
        self.files("train")

    def train(self) -> StrokeSet:
        """Return the training part."""
        return self._whole("train")

    def test(self) -> StrokeSet:
        """Return the test part."""
        return self._whole("test")

    def pieces(self, part: str) -> Sequence[Piece]:
        """Return a piece for every ``files_per_piece`` files."""
        files, step = self.files(part), self.files_per_piece
        groups = [files[start : start + step] for start in range(0, len(files), step)]
        return [
            Piece(self._name(group), partial(self.read_files, group, part), stamp_of(group))
            for group in groups
        ]

    def read_files(
        self, files: Sequence[Path], part: str, on_damage: OnDamage
    ) -> Iterator[StrokeSet]:
        """Yield the characters of several files, a limited number at a time."""
        characters = chain.from_iterable(self.read_file(f, part, on_damage) for f in files)
        while some := list(islice(characters, CHARACTERS_AT_A_TIME)):
            yield _joined(StrokeSet.from_strokes, some, self.root)

    def _whole(self, part: str) -> StrokeSet:
        parts = [strokes for piece in self.pieces(part) for strokes in piece.read(refuse)]
        whole = _joined(concatenate, parts, self.root)
        if not len(whole):
            raise DataError(f"{self.root}: no character of the {part} part is of a known class")
        return whole

    def _name(self, group: list[Path]) -> str:
        return str(group[0]) if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"


class Line(NamedTuple):
    """A line of a text file.

    Args:
        text: Without the end of the line.
        where: File name, line and byte offset, for errors.
    """

    text: str
    where: str


def find_files(root: Path, patterns: Iterable[str], what: str) -> list[Path]:
    """Return the files below ``root`` that match a pattern, sorted; hidden ones do not count.

    A ``root`` that is a file is returned as it is.

    Raises:
        DataError: If there is none; the message says ``what`` was wanted.
    """
    if root.is_file():
        return [root]
    found = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    inside = [path for path in found if not _is_hidden(path.relative_to(root))]
    if not inside:
        raise DataError(
            f"{root} holds no file {' or '.join(patterns)}: name the folder of {what} as root"
        )
    return sorted(inside)


def read_file_bytes(path: Path, limit: int = LARGEST_FILE) -> bytes:
    """Return the contents of a plain or .gz file.

    Raises:
        DataError: If it cannot be read, or is longer than ``limit`` bytes.
    """
    data = bytearray()
    try:
        with open_file(path) as file:
            # Block by block: a file object makes room for all that it is asked for.
            while len(data) <= limit and (block := file.read(_BLOCK)):
                data += block
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}; get the file again") from error
    if len(data) > limit:
        raise DataError(f"{path}: longer than {limit} bytes: not a file of this format")
    return bytes(data)


def read_lines(path: Path, on_damage: OnDamage) -> Iterator[Line]:
    """Yield the lines of a plain or .gz file in UTF-8 that are not blank.

    A line that is not UTF-8 is damage, and so is an empty file; a line that is too long, or a
    broken .gz, ends the file too.
    """
    offset = 0
    try:
        with open_file(path) as file:
            for number, raw in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), start=1):
                where = f"{path}: line {number} (byte {offset})"
                offset += len(raw)
                if len(raw) == LONGEST_LINE:
                    on_damage(DataError(f"{where}: longer than {LONGEST_LINE} bytes"))
                    return
                try:
                    text = raw.decode("utf-8").strip()
                except UnicodeDecodeError as error:
                    at = offset - len(raw) + error.start
                    on_damage(DataError(f"{where}: byte {at} is {raw[error.start]:#04x}, no UTF-8"))
                    continue
                if text:
                    yield Line(text, where)
        if not offset:
            on_damage(DataError(f"{path}: an empty file, expected lines of text; get it again"))
    except (OSError, EOFError, zlib.error) as error:
        on_damage(DataError(f"{path}: cannot be read beyond byte {offset}: {error}; get it again"))


def open_file(path: Path) -> BinaryIO:
    """Open a plain or .gz file for reading bytes."""
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def stamp_of(paths: Iterable[Path]) -> str:
    """Return the sizes and times of change of some files."""
    found = [path.stat() for path in paths]
    return " ".join(f"{file.st_size}:{file.st_mtime_ns}" for file in found)


def _is_hidden(path: Path) -> bool:
    return any(name.startswith((".", "__MACOSX")) for name in path.parts)


def _joined(join: Callable[[list[T]], StrokeSet], parts: list[T], root: Path) -> StrokeSet:
    try:
        return join(parts)
    except ValueError as error:
        raise DataError(f"{root}: {error}") from error
