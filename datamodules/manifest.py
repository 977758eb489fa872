"""The manifest of a folder of prepared strokes: what it holds and where that comes from.

A folder holds ``manifest.json`` and, for each part, a shard: the arrays of a `StrokeSet` as
``<part>.<field>.npy``. The manifest is written last, so a folder that has one is complete.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spcnn_lightning.core.errors import DataError

MANIFEST = "manifest.json"
FORMAT, VERSION = "spcnn strokes", 1


class Field(NamedTuple):
    """How an array of a `StrokeSet` is stored.

    Args:
        dtype: Of its numbers.
        row_shape: Shape of one row.
        counts: What there is a row for: "points", "strokes" or "characters".
        extra: Rows more than that: 1 for offsets.
    """

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    counts: str
    extra: int


FIELDS = {
    "points": Field(np.dtype("<f4"), (2,), "points", 0),
    "point_offsets": Field(np.dtype("<i8"), (), "strokes", 1),
    "stroke_offsets": Field(np.dtype("<i8"), (), "characters", 1),
    "labels": Field(np.dtype("<i8"), (), "characters", 0),
    "writers": Field(np.dtype("<i4"), (), "characters", 0),
    "time": Field(np.dtype("<f4"), (), "points", 0),
    "pressure": Field(np.dtype("<f4"), (), "points", 0),
}


@dataclass(frozen=True)
class Shard:
    """One part.

    Args:
        characters: How many there are.
        strokes: How many, in all.
        points: How many, in all.
        sha256: Checksum of the file of each field that there is.
    """

    characters: int
    strokes: int
    points: int
    sha256: dict[str, str]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a field."""
        field = FIELDS[name]
        return (int(getattr(self, field.counts)) + field.extra, *field.row_shape)


@dataclass(frozen=True)
class Manifest:
    """What a folder of prepared strokes holds.

    Args:
        source: What it was made of: class and arguments.
        class_names: In the order of the labels.
        citation: One line.
        licence_text: The licence in full, if it must travel with the data.
        parts: A shard for each part.
        left_out: What was damaged, the first messages.
        num_left_out: How many there were.
    """

    source: dict[str, Any]
    class_names: tuple[str, ...]
    citation: str
    licence_text: str
    parts: dict[str, Shard]
    left_out: tuple[str, ...] = ()
    num_left_out: int = 0

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder."""
        (folder / MANIFEST).write_text(self.to_text() + "\n", encoding="utf-8")

    def to_text(self) -> str:
        """Return the manifest as JSON."""
        record = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps(record, indent=1, ensure_ascii=False)

    @staticmethod
    def load(folder: Path) -> Manifest:
        """Read the manifest of a folder.

        Raises:
            DataError: If there is none, or it is damaged or of another version.
        """
        path = folder / MANIFEST
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(
                f"{folder} holds no {MANIFEST} ({error}): name a folder that `spcnn data prepare` "
                "has finished; one of chunks (--format litdata) is read by --source StreamedShards "
                "--source.address FOLDER, one of pictures by --source ImageFolder --root FOLDER"
            ) from error
        except ValueError as error:
            raise _damaged(path, error) from error
        return Manifest.from_text(text, path)

    @staticmethod
    def from_text(text: str, path: Path | str) -> Manifest:
        """Return the manifest that `to_text` wrote; ``path`` is where it was found.

        Raises:
            DataError: If it is damaged or of another version.
        """
        try:
            record = json.loads(text)
            found = (record.pop("format"), record.pop("version"))
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(path, error) from error
        if found != (FORMAT, VERSION):
            raise DataError(f"{path}: {found}, expected {(FORMAT, VERSION)}: prepare again")
        try:
            return _from_json(record)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error


def _damaged(path: Path | str, error: Exception) -> DataError:
    return DataError(f"{path}: damaged ({str(error)[:200]}): prepare the data again")


def shard_file(folder: Path, part: str, name: str) -> Path:
    """Return the file of a field."""
    return folder / f"{part}.{name}.npy"


def _from_json(record: dict[str, Any]) -> Manifest:
    parts = {part: Shard(**shard) for part, shard in record.pop("parts").items()}
    names, left_out = record.pop("class_names"), record.pop("left_out")
    manifest = Manifest(class_names=tuple(names), parts=parts, left_out=tuple(left_out), **record)
    for value, kind in (
        (names, list),
        (left_out, list),
        *((name, str) for name in (*names, *left_out)),
        (manifest.citation, str),
        (manifest.licence_text, str),
        (manifest.source, dict),
        (manifest.num_left_out, int),
    ):
        _require(value, kind)
    for shard in parts.values():
        for count in (shard.characters, shard.strokes, shard.points):
            _require(count, int)
        if min(shard.characters, shard.strokes, shard.points) < 1:
            raise ValueError(f"a part of {shard.characters} characters")
        if not set(FIELDS) - {"writers", "time", "pressure"} <= set(shard.sha256) <= set(FIELDS):
            raise ValueError(f"the fields {sorted(shard.sha256)}")
    return manifest


def _require(value: object, kind: type) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{value!r} where {kind.__name__} belongs")
