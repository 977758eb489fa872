"""Preparing for object storage: shards cut into chunks of the library litdata."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.manifest import Manifest, shard_file
from spcnn_lightning.datamodules.preparing import Progress, alone_at, origin_of, prepare
from spcnn_lightning.datamodules.sources.base import PARTS, StrokeSource
from spcnn_lightning.datamodules.sources.streamed_shards import CONTENTS, litdata

PIECE = 2**24
"""Bytes of an item, and of a chunk."""
ORIGIN = "origin.txt"
LAUNCHERS = ("WORLD_SIZE", "GLOBAL_RANK", "RANK", "LOCAL_RANK", "NNODES")


def prepare_chunks(
    source: StrokeSource,
    out: Path,
    description: Mapping[str, Any],
    *,
    parts: Sequence[str] = PARTS,
    skip_damaged: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
    piece: int = PIECE,
) -> Manifest:
    """Write the parts of a source into the folder ``out``, from which `StreamedShards` reads them.

    Until all is done ``<out>.partial`` holds the shards, and then their chunks. A run that was
    broken off goes on there, when it is started again with the same arguments. Arguments as in
    `prepare`, and ``piece``: bytes of a chunk.

    Raises:
        DataError: As `prepare`, or if litdata is not installed.
    """
    litdata()
    source.check()
    with alone_at(out):
        partial = out.with_name(f"{out.name}.partial")
        origin = origin_of(description, source, {part: source.pieces(part) for part in parts})
        _begin(partial, origin)
        plain, chunks = partial / "shards", partial / "chunks"
        if plain.exists():
            manifest = Manifest.load(plain)
        else:
            manifest = prepare(
                source, plain, description, parts=parts, skip_damaged=skip_damaged, report=report
            )
        shutil.rmtree(chunks, ignore_errors=True)
        _write(plain, manifest, chunks, piece)
        if out.exists():
            out.rmdir()
        chunks.rename(out)
        shutil.rmtree(partial)
    return manifest


def _begin(folder: Path, origin: str) -> None:
    """Make the folder, or find that it was begun with the same arguments."""
    note = folder / ORIGIN
    if not folder.exists():
        folder.mkdir()
        note.write_text(origin, encoding="utf-8")
    elif not note.exists() or note.read_text(encoding="utf-8") != origin:
        raise DataError(
            f"{folder} was begun with another source, other arguments, another --format or other "
            "files: delete it, or give another --out"
        )


def _write(plain: Path, manifest: Manifest, out: Path, piece: int) -> None:
    """Write the contents, and then the bytes of each file."""
    files = [
        shard_file(plain, part, field)
        for part, shard in manifest.parts.items()
        for field in shard.sha256
    ]
    pieces = [file for file in files for _ in range(0, file.stat().st_size, piece)]
    contents = {"manifest": manifest.to_text(), "files": [file.name for file in pieces]}
    with _no_launcher():
        writer = importlib.import_module("litdata.streaming.writer")
        chunks = writer.BinaryWriter(str(out), chunk_size=1)
        chunks.add_item(0, {"file": CONTENTS, "data": json.dumps(contents).encode()})
        number = 0
        for file in files:
            with file.open("rb") as opened:
                while data := opened.read(piece):
                    number += 1
                    chunks.add_item(number, {"file": file.name, "data": data})
        chunks.done()
        chunks.merge()
    for file in out.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


@contextmanager
def _no_launcher() -> Iterator[None]:
    """Hide the variables of torchrun and its like, for whose other processes litdata would wait."""
    hidden = {name: os.environ.pop(name) for name in LAUNCHERS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
