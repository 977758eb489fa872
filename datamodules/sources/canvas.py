"""CanvasJson: strokes as a browser's canvas hands them over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import read_file_bytes, read_lines
from spcnn_lightning.datamodules.sources.parsing import (
    build_character,
    json_array,
    json_field,
    parse_json,
    shortened,
)
from spcnn_lightning.datamodules.sources.user_files import UserFiles
from spcnn_lightning.datamodules.strokes import Strokes

STROKE = "a list of points, all [x, y], all [x, y, t] or all [x, y, t, p]"
LARGEST_WRITER = 2**31 - 1


class _Drawing(NamedTuple):
    label: str
    writer: int | None
    strokes: Any
    where: str


class CanvasJson(UserFiles):
    """Your own strokes: ``[[[x, y, t, p], ...], ...]``, a list of points for each stroke.

    x grows to the right, y downwards, t counts milliseconds, p is the pressure; p, or p and t, may
    be absent. Two kinds of files, also packed as ``.gz``:

    * ``<label>/<any name>.json``: one character, labelled by the folder that it lies in;
    * ``<any name>.ndjson``: a character in each line, ``{"label": "A", "writer": 3, "strokes":
      [...]}``. The writer is an integer and may be absent.

    The arguments are those of `UserFiles`: ``root`` holds a folder ``train`` and a folder ``test``.
    """

    patterns = ("**/*.json", "**/*.json.gz", "**/*.ndjson", "**/*.ndjson.gz")
    what = "your strokes as .json or .ndjson"
    files_per_piece = 500

    def files(self, part: str) -> list[Path]:
        """Return the files of ``part``; each .json lies in a folder that is its label."""
        found, folder = super().files(part), self.root / self.folders[part]
        for path in found:
            if _is_one_character(path) and len(path.relative_to(folder).parts) < 2:
                raise DataError(
                    f"{path} lies in no folder that names its label: put it into "
                    f"{path.parent / '<label>' / path.name}"
                )
        return found

    def read_labels(self, path: Path, on_damage: OnDamage) -> Iterable[str]:
        """Return the labels of a file; of a .json without reading it."""
        if _is_one_character(path):
            return [path.parent.name]
        return (drawing.label for drawing in _read_drawings(path, on_damage))

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the characters of a file."""
        for drawing in _read_drawings(path, on_damage):
            try:
                label = self.table.number(drawing.label, drawing.where)
                if label is not None:
                    yield self._character(drawing, label)
            except DataError as error:
                on_damage(error)

    def _character(self, drawing: _Drawing, label: int) -> Strokes:
        where = drawing.where
        if not isinstance(drawing.strokes, list):
            raise DataError(f"{where}: {shortened(drawing.strokes)}, expected a list of strokes")
        strokes = [json_array(stroke, where, STROKE) for stroke in drawing.strokes]
        strokes = [stroke for stroke in strokes if len(stroke)]
        widths = {stroke.shape[1] if stroke.ndim == 2 else 0 for stroke in strokes}
        if len(widths) > 1 or not widths <= {2, 3, 4}:
            raise DataError(
                f"{where}: points of {shortened(sorted(widths))} numbers, expected {STROKE}"
            )
        numbers = max(widths, default=0)
        return build_character(
            [stroke[:, [1, 0]] for stroke in strokes],
            label,
            drawing.writer if self.keep_writers else None,
            time=[stroke[:, 2] for stroke in strokes] if numbers > 2 and self.keep_time else None,
            pressure=[s[:, 3] for s in strokes] if numbers > 3 and self.keep_pressure else None,
            where=where,
        )


def _is_one_character(path: Path) -> bool:
    return ".json" in path.suffixes


def _read_drawings(path: Path, on_damage: OnDamage) -> Iterator[_Drawing]:
    """Yield what a file holds, its strokes not looked at."""
    if _is_one_character(path):
        try:
            text = read_file_bytes(path).decode("utf-8")
            yield _Drawing(path.parent.name, None, parse_json(text, str(path)), str(path))
        except UnicodeDecodeError as error:
            on_damage(DataError(f"{path}: byte {error.start} is no UTF-8"))
        except DataError as error:
            on_damage(error)
        return
    for text, where in read_lines(path, on_damage):
        try:
            record = parse_json(text, where)
            label = json_field(record, "label", str, where)
            writer = json_field(record, "writer", int, where) if "writer" in record else None
            if writer is not None and not 0 <= writer <= LARGEST_WRITER:
                raise DataError(f"{where}: writer {writer}, expected 0 to {LARGEST_WRITER}")
            drawing = _Drawing(label, writer, json_field(record, "strokes", list, where), where)
        except DataError as error:
            on_damage(error)
            continue
        yield drawing
