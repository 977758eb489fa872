"""Unipen: labelled segments of files in the UNIPEN 1.0 text format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage
from spcnn_lightning.datamodules.sources.files import Line, read_lines
from spcnn_lightning.datamodules.sources.parsing import build_character, writer_number
from spcnn_lightning.datamodules.sources.unipen_text import Segment, UnipenReader
from spcnn_lightning.datamodules.sources.user_files import UserFiles
from spcnn_lightning.datamodules.strokes import Strokes

DEEPEST_INCLUDE = 8


class Unipen(UserFiles):
    """Segments of one type, with the pen's way while it was down: UNIPEN, UJIpenchars and others.

    An included file is looked for beside the file that names it, in the folders above up to
    ``root``, and in an ``include`` folder of each. Writers are numbered by the CRC-32 of their
    `.WRITER_ID`.

    Args:
        root: The folder that holds both parts.
        level: Type of the segments to read, such as "CHARACTER", "DIGIT" or "WORD". None: the last
            that `.HIERARCHY` names.
        **arguments: As of `UserFiles`.
    """

    patterns = tuple(
        f"**/*.{end}{gz}" for end in ("dat", "unp", "upn", "txt") for gz in ("", ".gz")
    )
    what = "UNIPEN files"

    def __init__(self, root: str | Path, level: str | None = None, **arguments: Any) -> None:
        super().__init__(root, **arguments)
        self.level = level

    def read_labels(self, path: Path, on_damage: OnDamage) -> Iterator[str]:
        """Yield the labels of a file."""
        yield from (segment.label for segment in self._segments(path, on_damage))

    def read_file(self, path: Path, part: str, on_damage: OnDamage) -> Iterator[Strokes]:
        """Yield the segments of a file."""
        for segment in self._segments(path, on_damage):
            try:
                label = self.table.number(segment.label, segment.where)
                if label is not None:
                    yield self._character(segment, label)
            except DataError as error:
                on_damage(error)

    def _segments(self, path: Path, on_damage: OnDamage) -> Iterator[Segment]:
        reader = UnipenReader(self.level, on_damage, self._includes(path, on_damage))
        yield from reader.segments(read_lines(path, on_damage))

    def _includes(self, path: Path, on_damage: OnDamage) -> Callable[[str], Iterator[Line] | None]:
        """Return what finds the lines of a file that ``path`` includes, each only once."""
        top = self.root.resolve()
        seen = {path.resolve()}

        def include(name: str) -> Iterator[Line] | None:
            folder = path.resolve().parent
            above = [folder, *folder.parents]
            above = above[: above.index(top) + 1] if top in above else above[:1]
            for place in (inside / name for up in above for inside in (up, up / "include")):
                found = place.resolve()
                if top in found.parents and found.is_file() and found not in seen:
                    if len(seen) > DEEPEST_INCLUDE:
                        return None
                    seen.add(found)
                    return read_lines(found, on_damage)
            return None

        return include

    def _character(self, segment: Segment, label: int) -> Strokes:
        x, y = segment.axes.index("X"), segment.axes.index("Y")

        def column(name: str, wanted: bool) -> list[Any] | None:
            if not wanted or name not in segment.axes:
                return None
            return [stroke[:, segment.axes.index(name)] for stroke in segment.strokes]

        return build_character(
            [np.stack([-stroke[:, y], stroke[:, x]], axis=1) for stroke in segment.strokes],
            label,
            writer_number(segment.writer) if segment.writer and self.keep_writers else None,
            time=column("T", self.keep_time),
            pressure=column("P", self.keep_pressure),
            where=segment.where,
        )
