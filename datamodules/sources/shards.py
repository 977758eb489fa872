"""Shards: what ``spcnn data prepare`` wrote, memory-mapped."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.manifest import FIELDS, Manifest, Shard, shard_file
from spcnn_lightning.datamodules.npy_files import HEADER_BYTES, file_checksum
from spcnn_lightning.datamodules.sources.base import StrokeSource
from spcnn_lightning.datamodules.strokes import StrokeSet


class PreparedSource(StrokeSource):
    """What a manifest says of prepared strokes."""

    manifest: Manifest

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """A name for each class."""
        return self.manifest.class_names

    @property
    def citation(self) -> str:  # type: ignore[override]
        """Authors, year, licence."""
        return self.manifest.citation

    @property
    def licence_text(self) -> str:  # type: ignore[override]
        """The licence in full, if it must travel with the data."""
        return self.manifest.licence_text


def require_part(manifest: Manifest, part: str, root: str | Path) -> Shard:
    """Return what the manifest of ``root`` says of a part.

    Raises:
        DataError: If it was not prepared.
    """
    if part not in manifest.parts:
        raise DataError(
            f"{root} holds no {part} part, only {', '.join(manifest.parts)}: prepare it with "
            "--parts train test"
        )
    return manifest.parts[part]


class Shards(PreparedSource):
    """A folder of prepared strokes: a data set of any size, without reading it into memory.

    Args:
        root: The folder.
        verify: Compare all checksums when a part is opened, which reads it once. False: look at
            sizes only, for sets of many gigabytes that were verified before.
    """

    def __init__(self, root: str | Path, verify: bool = True) -> None:
        self.root, self.verify = Path(root), verify

    @cached_property
    def manifest(self) -> Manifest:  # type: ignore[override]
        """What the folder holds."""
        return Manifest.load(self.root)

    def check(self) -> None:
        """Raise `DataError` if a file is missing or has another size than it should."""
        for part, shard in self.manifest.parts.items():
            for name in shard.sha256:
                _of_right_size(self.root, part, name, shard)

    def train(self) -> StrokeSet:
        """Return the training part, memory-mapped."""
        return self._open("train")

    def test(self) -> StrokeSet:
        """Return the test part, memory-mapped."""
        return self._open("test")

    def _open(self, part: str) -> StrokeSet:
        shard = require_part(self.manifest, part, self.root)
        if self.verify:
            for name in shard.sha256:
                self._verify(part, name, shard)
        strokes = MappedStrokeSet(self.root, part, shard)
        if strokes.labels.max() >= self.num_classes:
            raise DataError(
                f"{self.root}: label {strokes.labels.max()} of {self.num_classes} classes in "
                "manifest.json: it was changed, prepare the data again"
            )
        return strokes

    def _verify(self, part: str, name: str, shard: Shard) -> None:
        path = _of_right_size(self.root, part, name, shard)
        if (found := file_checksum(path)) != shard.sha256[name]:
            raise DataError(
                f"{path}: SHA-256 is {found[:16]}..., expected {shard.sha256[name][:16]}...: the "
                "file was changed; prepare the data again"
            )


class MappedStrokeSet(StrokeSet):
    """One part of a folder of prepared strokes, memory-mapped.

    A pickle of it names the files and holds none of their data: where it is read, say in a worker
    that was spawned, the files are mapped again.

    Args:
        root: The folder.
        part: "train" or "test".
        shard: What the manifest says of the part.

    Raises:
        DataError: If a file is missing or has another size than it should, also from unpickling.
    """

    _opened: tuple[Path, str, Shard]

    def __init__(self, root: Path, part: str, shard: Shard) -> None:
        arrays = {name: _mapped(root, part, name, shard) for name in shard.sha256}
        super().__init__(**arrays, validate=False)
        # Not relative: a process that reads the pickle may run in another folder.
        object.__setattr__(self, "_opened", (root.absolute(), part, shard))

    def __reduce__(self) -> tuple[Any, ...]:
        return MappedStrokeSet, self._opened


def _mapped(root: Path, part: str, name: str, shard: Shard) -> Any:
    path, dtype = _of_right_size(root, part, name, shard), FIELDS[name].dtype
    # The header says the same as the manifest, and the checksum covers it.
    return np.memmap(path, dtype, "r", HEADER_BYTES, shard.shape(name))


def _of_right_size(root: Path, part: str, name: str, shard: Shard) -> Path:
    path, field = shard_file(root, part, name), FIELDS[name]
    expected = HEADER_BYTES + math.prod(shard.shape(name)) * field.dtype.itemsize
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        raise DataError(
            f"{path}: {'missing' if found is None else f'{found} bytes'}, expected {expected} "
            "bytes: copy the folder again, or prepare the data again"
        )
    return path
