"""HanziMedians: the middle lines of the strokes of Chinese characters, one template each.

A JSON object for each character with ``medians``, a list of points ``[x, y]`` for each stroke in
writing order. The box is 1024 wide, y grows upwards and the upper edge is y = 900. Two forms:

* ``graphics.txt`` of Make Me a Hanzi: one object in each line, with ``character``;
* a folder of hanzi-writer-data: one file ``<character>.json`` for each.

Source:
    https://github.com/skishore/makemeahanzi, https://github.com/chanind/hanzi-writer-data; the data
    derive from fonts by Arphic Technology, Arphic Public License.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import FileSource, find_files, read_lines
from spcnn_lightning.datamodules.sources.parsing import (
    build_character,
    json_array,
    json_field,
    parse_json,
)
from spcnn_lightning.datamodules.strokes import Strokes

TOP = 900
"""The y of the upper edge of the box."""


class HanziMedians(FileSource):
    """Medians of Make Me a Hanzi: about 9,500 characters, one template each.

    With one template a class there is nothing to split: both parts are the whole collection. The
    same templates packed as arrays of an npz file are read by `StrokeTemplates`.

    Args:
        root: ``graphics.txt``, or a folder of ``<character>.json`` files.
        classes: Which characters to read: their names, or the first n of GB2312 level 1. None: all,
            sorted.

    Source:
        Make Me a Hanzi, from fonts by Arphic Technology; Arphic Public License.
    """

    files_per_piece = 500
    citation = "Make Me a Hanzi, from fonts by Arphic Technology; Arphic Public License"

    def discover_classes(self, on_damage: OnDamage) -> Iterable[str]:
        """Return the characters."""
        if self.root.is_file():
            return (name for name, _, _ in _read_objects(self.root, on_damage))
        return [path.stem for path in self._all_files()]

    def files(self, part: str) -> list[Path]:
        """Return the file, or the files of the classes; they hold no parts."""
        found = self._all_files()
        if self.root.is_file() or self.classes is None:
            return found
        return [path for path in found if path.stem in self.table]

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the characters of a file."""
        for name, record, where in _read_objects(path, on_damage):
            try:
                label = self.table.number(name, where)
                if label is not None:
                    yield _character(record, label, where)
            except DataError as error:
                on_damage(error)

    def _all_files(self) -> list[Path]:
        return find_files(self.root, ("?.json",), "<character>.json files")


def _read_objects(path: Path, on_damage: OnDamage) -> Iterator[tuple[str, Any, str]]:
    """Yield for each object its character, itself and its place."""
    for text, where in read_lines(path, on_damage):
        try:
            record = parse_json(text, where)
            if path.suffix == ".json":
                name = path.stem
            else:
                name = json_field(record, "character", str, where)
        except DataError as error:
            on_damage(error)
            continue
        yield name, record, where


def _character(record: Any, label: int, where: str) -> Strokes:
    medians = json_field(record, "medians", list, where)
    strokes = [json_array(median, where, "a list of points [x, y]") for median in medians]
    for stroke in strokes:
        if stroke.ndim != 2 or stroke.shape[1] != 2:
            raise DataError(f"{where}: a median of shape {stroke.shape}, expected points [x, y]")
    return build_character([(TOP, 0) + s[:, [1, 0]] * (-1, 1) for s in strokes], label, where=where)
