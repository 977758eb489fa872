"""QuickDraw: the drawings of Google's game Quick, Draw!

Files are ndjson, one drawing in each line: ``key_id``, ``word``, ``recognized`` and ``drawing``, a
list with ``[[x, ...], [y, ...], [t, ...]]`` for each stroke. Raw files have the milliseconds t;
simplified ones, which are scaled to 0..255 and thinned out, do not. Binary files hold simplified
drawings: see `quickdraw_binary`. y grows downwards.

Source:
    The Quick, Draw! Dataset, https://github.com/googlecreativelab/quickdraw-dataset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import FileSource, Line, find_files, read_lines
from spcnn_lightning.datamodules.sources.parsing import (
    Doubles,
    build_character,
    json_array,
    json_field,
    parse_json,
    shortened,
)
from spcnn_lightning.datamodules.sources.quickdraw_binary import read_binary_drawings
from spcnn_lightning.datamodules.strokes import Strokes

PATTERNS = ("*.ndjson", "*.ndjson.gz", "*.bin")
PREFIXES = ("full_raw_", "full_simplified_", "full_binary_")
STROKE = "[[x, ...], [y, ...]] or [[x, ...], [y, ...], [t, ...]]"


class _Drawing(NamedTuple):
    word: str
    key: int
    recognised: bool
    strokes: list[Doubles]  # rows x, y and perhaps t
    where: str


class QuickDraw(FileSource):
    """Quick, Draw!: 50 million drawings of 345 things, each drawn in at most 20 seconds.

    There is no official split: drawings with ``key_id % folds == test_fold`` are the test part. The
    data do not say who drew what.

    Args:
        root: A folder with one file for each class, named as Google hands them out
            (``full_raw_cat.ndjson``, ``full_simplified_cat.ndjson``, ``full_binary_cat.bin`` or
            ``cat.ndjson``; ndjson also as ``.gz``), or one ndjson file with drawings of several
            classes. Download: https://github.com/googlecreativelab/quickdraw-dataset
        classes: Which words to read; each must be there. None: all that there are, sorted.
        folds: One in so many drawings is for the test.
        test_fold: Which, from 0 to ``folds - 1``.
        only_recognised: Leave out drawings of which the game did not guess the word.
        keep_time: False leaves the time of raw files out.

    Raises:
        ValueError: If ``test_fold`` is none of at least two folds.

    Source:
        Google Creative Lab, The Quick, Draw! Dataset, 2017, CC BY 4.0.
    """

    citation = "Google Creative Lab (2017), The Quick, Draw! Dataset; CC BY 4.0"

    def __init__(
        self,
        root: str | Path,
        classes: list[str] | None = None,
        folds: int = 5,
        test_fold: int = 0,
        only_recognised: bool = False,
        keep_time: bool = True,
    ) -> None:
        super().__init__(root, classes)
        if folds < 2 or not 0 <= test_fold < folds:
            raise ValueError(
                f"test_fold is {test_fold} and folds {folds}: give at least 2 folds, and one of "
                "0 .. folds - 1 for the test"
            )
        self.folds, self.test_fold = folds, test_fold
        self.only_recognised, self.keep_time = only_recognised, keep_time

    def discover_classes(self, on_damage: OnDamage) -> Iterable[str]:
        """Return the words that files are named after; of a single file, those in it."""
        if self.root.is_file() and self.root.suffix != ".bin":
            return (drawing.word for drawing in _read_ndjson(self.root, on_damage))
        return [_word_of(path) for path in self.files("train")]

    def files(self, part: str) -> list[Path]:
        """Return the files, which hold both parts; of chosen classes only.

        Raises:
            DataError: If there is none, a chosen class has none, or two files are of one word.
        """
        found = find_files(self.root, PATTERNS, "Quick, Draw! files")
        if self.root.is_file():
            return found
        if self.classes is not None:
            self._require_words(map(_word_of, found))
            found = [path for path in found if _word_of(path) in self.table]
        first: dict[str, Path] = {}
        for path in found:
            if (other := first.setdefault(_word_of(path), path)) != path:
                raise DataError(
                    f"{other} and {path} hold the drawings of one word, which would count twice: "
                    "remove one of them"
                )
        return found

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the drawings of ``part`` in a file."""
        read = _read_binary if path.suffix == ".bin" else _read_ndjson
        words = set()
        for drawing in read(path, on_damage):
            words.add(drawing.word)
            in_test = drawing.key % self.folds == self.test_fold
            if in_test != (part == "test") or (self.only_recognised and not drawing.recognised):
                continue
            try:
                label = self.table.number(drawing.word, drawing.where)
                if label is not None:
                    yield self._character(drawing, label)
            except DataError as error:
                on_damage(error)
        if path == self.root and self.classes is not None:
            self._require_words(words)

    def _require_words(self, words: Iterable[str]) -> None:
        """Raise `DataError` if a class that the user chose is none of the words that there are."""
        there = sorted(set(words))
        missing = [name for name in self.table.names if name not in there]
        if missing:
            close = [", ".join(map(repr, get_close_matches(name, there))) for name in missing[:5]]
            hints = [f"{n!r} (close: {c or 'none'})" for n, c in zip(missing, close, strict=False)]
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise DataError(
                f"{self.root} holds no drawing of {', '.join(hints)}{more}, which classes names"
            )

    def _character(self, drawing: _Drawing, label: int) -> Strokes:
        timed = self.keep_time and len(drawing.strokes[0]) == 3
        return build_character(
            [stroke[[1, 0]].T for stroke in drawing.strokes],
            label,
            time=[stroke[2] for stroke in drawing.strokes] if timed else None,
            where=drawing.where,
        )


def _read_ndjson(path: Path, on_damage: OnDamage) -> Iterator[_Drawing]:
    for line in read_lines(path, on_damage):
        try:
            drawing = _parse_line(line)
        except DataError as error:
            on_damage(error)
        else:
            yield drawing


def _parse_line(line: Line) -> _Drawing:
    record, where = parse_json(line.text, line.where), line.where
    key = json_field(record, "key_id", str, where)
    if not (key.isascii() and key.isdigit() and len(key) <= 20):
        raise DataError(f"{where}: key_id is {shortened(key)}, expected a string of digits")
    strokes = [json_array(s, where, STROKE) for s in json_field(record, "drawing", list, where)]
    shapes = {len(stroke) if stroke.ndim == 2 else 0 for stroke in strokes}
    if shapes not in ({2}, {3}):
        raise DataError(
            f"{where}: {len(strokes)} strokes of {shortened(sorted(shapes))} lists, expected at "
            f"least one stroke, and all {STROKE}"
        )
    return _Drawing(
        json_field(record, "word", str, where),
        int(key),
        json_field(record, "recognized", bool, where),
        strokes,
        where,
    )


def _read_binary(path: Path, on_damage: OnDamage) -> Iterator[_Drawing]:
    for drawing in read_binary_drawings(path, on_damage):
        strokes = [stroke.T[[1, 0]] for stroke in drawing.strokes]
        yield _Drawing(_word_of(path), drawing.key, drawing.recognised, strokes, drawing.where)


def _word_of(path: Path) -> str:
    word = path.name.removesuffix(".gz").removesuffix(".ndjson").removesuffix(".bin")
    for prefix in PREFIXES:
        word = word.removeprefix(prefix)
    return word
