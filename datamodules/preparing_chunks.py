"""Prepared strokes as chunks of the library litdata, which are read from object storage."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spcnn_lightning.datamodules.manifest import Manifest
from spcnn_lightning.datamodules.preparing import Progress, alone_at, prepare
from spcnn_lightning.datamodules.sources.base import PARTS, StrokeSource
from spcnn_lightning.datamodules.sources.shards import Shards
from spcnn_lightning.datamodules.sources.streamed_shards import ABOUT, OF_STROKES, litdata
from spcnn_lightning.datamodules.strokes import StrokeSet

PER_CHARACTER = ("labels", "writers")
CHUNK_BYTES = 2**24
_AT_A_TIME = 1_024


def prepare_chunks(
    source: StrokeSource,
    out: Path,
    description: Mapping[str, Any],
    *,
    parts: Sequence[str] = PARTS,
    skip_damaged: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    chunk_bytes: int = CHUNK_BYTES,
) -> Manifest:
    """Write the parts of a source into the folder ``out``, from which `StreamedShards` reads them.

    By way of plain shards in ``<out>.shards``, which are removed in the end: a run that was broken
    off while they were written goes on there. Arguments as in `prepare`.

    Args:
        source: Where the characters come from.
        out: Must not exist yet, or be empty.
        description: Says in the manifest what the source is; in plain types.
        parts: Which to write.
        skip_damaged: Leave damaged records out, and list them, instead of stopping.
        report: Is told how far it is, twice.
        chunk_bytes: About how large a file is; it is what is copied at a time.

    Raises:
        DataError: As `prepare`, or if litdata is not installed.
    """
    litdata()
    with alone_at(out):
        plain, partial = (out.with_name(f"{out.name}.{word}") for word in ("shards", "partial"))
        for folder in (plain, partial):  # of a run that was broken off later
            shutil.rmtree(folder, ignore_errors=True)
        manifest = prepare(
            source, plain, description, parts=parts, skip_damaged=skip_damaged, report=report
        )
        _write(Shards(plain, verify=False), partial, chunk_bytes, report)
        if out.exists():
            out.rmdir()
        partial.rename(out)
        shutil.rmtree(plain)
    return manifest


def _write(
    shards: Shards, folder: Path, chunk_bytes: int, report: Callable[[Progress], None]
) -> None:
    about: dict[str, Any] = {"manifest": shards.manifest.to_text()}
    for part in shards.manifest.parts:
        characters = shards.train() if part == "train" else shards.test()
        _write_part(characters, part, folder / part, chunk_bytes, report)
        for name in PER_CHARACTER:
            if (values := getattr(characters, name)) is not None:
                about[f"{part}.{name}"] = np.array(values)
    writer = _writer(folder / ABOUT, chunk_size=1)
    writer.add_item(0, about)
    _finish(writer)


def _write_part(
    characters: StrokeSet,
    part: str,
    folder: Path,
    chunk_bytes: int,
    report: Callable[[Progress], None],
) -> None:
    writer, total = _writer(folder, chunk_bytes=chunk_bytes), len(characters)
    for number in range(total):
        one = characters.select([number])
        fields = {name: getattr(one, name) for name in OF_STROKES}
        writer.add_item(number, {k: np.array(v) for k, v in fields.items() if v is not None})
        if (number + 1) % _AT_A_TIME == 0 or number + 1 == total:
            report(Progress(part, number + 1, total, number + 1))
    _finish(writer)


def _writer(folder: Path, **size: int) -> Any:
    writer = importlib.import_module("litdata.streaming.writer")
    return writer.BinaryWriter(str(folder), **size)


def _finish(writer: Any) -> None:
    writer.done()
    writer.merge()
