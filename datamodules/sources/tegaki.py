"""Tegaki: characters with the strokes of a pen, in the XML of the Tegaki project.

``<character>`` elements, alone or in ``<set>``s of a ``<character-collection>``, each with
``<utf8>``, the character, and ``<strokes>`` of ``<stroke>`` of ``<point x="" y=""/>``; points may
have a ``timestamp`` in milliseconds and a ``pressure``. The canvas is 1000 wide, y grows downwards.
Tomoe's dictionaries have the same elements: see `tomoe`.

Source:
    The Tegaki project, https://github.com/tegaki/tegaki, tegaki-python.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.bounded_xml import read_elements
from spcnn_lightning.datamodules.sources.parsing import Doubles, build_character, parse_numbers
from spcnn_lightning.datamodules.sources.user_files import UserFiles
from spcnn_lightning.datamodules.strokes import Strokes


class Tegaki(UserFiles):
    """Character collections of Tegaki: ``.xml``, also packed as ``.gz``.

    Classes are the texts of ``<utf8>``. The files do not say who wrote them. Time is kept if all
    points of a character have it, and pressure likewise; both must be there for all characters of
    the data set or for none. The arguments are those of `UserFiles`.
    """

    patterns = ("**/*.xml", "**/*.xml.gz")
    what = "Tegaki's character collections"

    def read_labels(self, path: Path, on_damage: OnDamage) -> Iterator[str]:
        """Yield the characters of a file."""
        for _, element in read_elements(path, "character", on_damage):
            if name := (element.findtext("utf8") or "").strip():
                yield name

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the characters of a file."""
        for where, element in read_elements(path, "character", on_damage):
            try:
                name = (element.findtext("utf8") or "").strip()
                if not name:
                    raise DataError(f"{where}: <character> without a text in <utf8>")
                label = self.table.number(name, where)
                if label is not None:
                    yield self._character(element, label, where)
            except DataError as error:
                on_damage(error)

    def _character(self, element: Element, label: int, where: str) -> Strokes:
        strokes = [list(stroke.iter("point")) for stroke in element.iter("stroke")]
        points = [point for stroke in strokes for point in stroke]
        timed = self.keep_time and all("timestamp" in point.attrib for point in points)
        pressed = self.keep_pressure and all("pressure" in point.attrib for point in points)
        return build_character(
            [_columns(stroke, ("y", "x"), where) for stroke in strokes],
            label,
            time=[_columns(s, ("timestamp",), where)[:, 0] for s in strokes] if timed else None,
            pressure=[_columns(s, ("pressure",), where)[:, 0] for s in strokes]
            if pressed
            else None,
            where=where,
        )


def _columns(stroke: list[Element], names: tuple[str, ...], where: str) -> Doubles:
    words = [point.get(name, "") for point in stroke for name in names]
    return np.array(parse_numbers(words, where), np.float64).reshape(-1, len(names))
