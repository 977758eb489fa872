"""KanjiVG: the strokes of Japanese characters as SVG paths, one drawing each.

One SVG file for each character, named by its code point in hexadecimal (``04e00.svg``), in a box
109 wide, y downwards: ``<path d="...">`` for each stroke in writing order. Files with something
after the number (``04e0d-Kaisho.svg``) are variants and not read.

Source:
    https://kanjivg.tagaini.net, U. Apel, CC BY-SA 3.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.bounded_xml import read_elements
from spcnn_lightning.datamodules.sources.files import FileSource, find_files
from spcnn_lightning.datamodules.sources.parsing import build_character
from spcnn_lightning.datamodules.sources.svg_path import path_points
from spcnn_lightning.datamodules.strokes import Strokes

_NAME = re.compile(r"[0-9a-f]{5}")


class KanjiVG(FileSource):
    """KanjiVG: about 6,700 characters, one drawing each, curves as eight points.

    With one drawing a class there is nothing to split: both parts are the whole collection. It is
    meant as test data for a network that learned from other hands, or as templates. The same
    characters packed as arrays of an npz file are read by `StrokeTemplates`.

    Args:
        root: The folder ``kanji`` of a release. Download: https://kanjivg.tagaini.net
        classes: Which characters to read: their names, or the first n of GB2312 level 1; those that
            KanjiVG lacks stay empty. None: all, sorted.

    Source:
        U. Apel, KanjiVG, CC BY-SA 3.0.
    """

    files_per_piece = 500
    citation = "Apel, KanjiVG; CC BY-SA 3.0"

    def discover_classes(self, on_damage: OnDamage) -> list[str]:
        """Return the characters that files are named after."""
        return [_character_of(path) for path in self._all_files()]

    def files(self, part: str) -> list[Path]:
        """Return the files of the classes; they hold no parts."""
        return [path for path in self._all_files() if _character_of(path) in self.table]

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the one character of a file."""
        label = self.table.number(_character_of(path), str(path))
        assert label is not None
        for where, picture in read_elements(path, "svg", on_damage):
            try:
                paths = [path_points(p.get("d", ""), where) for p in picture.iter("path")]
                yield build_character([p[:, [1, 0]] for p in paths], label, where=where)
            except DataError as error:
                on_damage(error)

    def _all_files(self) -> list[Path]:
        files = find_files(self.root, ("*.svg",), "KanjiVG's SVG files")
        plain = [path for path in files if _NAME.fullmatch(path.stem)]
        if not plain:
            raise DataError(f"{self.root} holds no file named like 04e00.svg")
        return plain


def _character_of(path: Path) -> str:
    return chr(int(path.stem, 16))
