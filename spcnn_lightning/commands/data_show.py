"""Drawing samples of a source, or what a config feeds to its network, into a PNG file."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules import (
    Bitmap,
    HandwritingDataset,
    Padder,
    PictureDataset,
    PictureSource,
    PictureSubset,
    Rasteriser,
    Scaling,
)
from spcnn_lightning.datamodules.joining import concatenate
from spcnn_lightning.datamodules.parts import check_labels
from spcnn_lightning.datamodules.randomness import seeded_order
from spcnn_lightning.datamodules.sources import StrokeSource
from spcnn_lightning.datamodules.sources.base import refuse
from spcnn_lightning.datamodules.strokes import StrokeSet
from spcnn_lightning.modules.drawing import columns_for, draw_gallery, draw_samples, has_matplotlib

FIELD, BOX = 96, 80
COLOURS = 3


def show(
    source: StrokeSource | PictureSource, part: str, samples: int, out: Path, seed: int
) -> None:
    """Draw some characters or pictures of a part, undistorted, into a PNG file.

    Raises:
        DataError: If the part holds nothing or is damaged, ``samples`` is not positive, or ``out``
            cannot be written.
    """
    check_request(samples, out)
    channel: int | None = 0
    if isinstance(source, PictureSource):
        batch, labels = _pictures(source, part, samples, seed)
        channel = None if source.channels - source.masked == COLOURS else 0
    else:
        strokes = choose(source, part, samples, seed)
        dataset = HandwritingDataset(strokes, Rasteriser((FIELD, FIELD), BOX, Bitmap()))
        batch, labels = dataset.prepare(range(len(strokes)))
    check_labels(labels.numpy(), source)
    captions = [source.class_names[label] for label in labels.tolist()]
    kind = "pictures" if isinstance(source, PictureSource) else "characters"
    drawings = draw_samples(batch, range(len(captions)), channel)
    write(drawings, captions, out, f"{len(captions)} {kind} of the {part} part")


def check_request(samples: int, out: Path) -> None:
    """Raise `DataError` if there is nothing to draw, or no folder to write it to."""
    if samples < 1:
        raise DataError(f"--samples is {samples}, expected at least 1")
    if not out.parent.is_dir():
        raise DataError(f"--out is {out}, and {out.parent} is no folder: create it first")


def write(drawings: Sequence[Tensor], captions: Sequence[str], out: Path, what: str) -> None:
    """Write drawings, each uint8 of shape (3, H, W), into a PNG file, and say what they are.

    Captions that can't be drawn, for want of matplotlib, are printed.

    Raises:
        DataError: If it cannot be written.
    """
    try:
        out.write_bytes(png(draw_gallery(drawings, captions)))
    except OSError as error:
        raise DataError(f"--out {out} cannot be written: {error}") from error
    print(f"{what}: {out}")
    if any(captions) and not has_matplotlib():
        print(
            "classes, row by row (pip install 'spcnn-lightning[viz]' writes them into the picture):"
        )
        columns = columns_for(len(captions))
        for start in range(0, len(captions), columns):
            print(" ", *captions[start : start + columns], sep="  ")


def _pictures(
    source: PictureSource, part: str, samples: int, seed: int
) -> tuple[SparseBatch, Tensor]:
    """Return random pictures of a part in a field that is a little larger, and their labels."""
    pictures = source.train() if part == "train" else source.test()
    if not len(pictures):
        raise DataError(f"the {part} part holds no picture")
    some = PictureSubset(pictures, seeded_order(len(pictures), seed)[:samples])
    side = max(max(picture.shape[:2]) for picture in some.select(range(len(some))))
    field = math.ceil(side * FIELD / BOX)
    padder = Padder((field, field), Scaling(source.background), masked=source.masked)
    return PictureDataset(some, padder).prepare(range(len(some)))


def choose(source: StrokeSource, part: str, samples: int, seed: int) -> StrokeSet:
    """Return points and labels from pieces all over the part; of each its beginning is read.

    Raises:
        DataError: If there is none.
    """
    pieces = source.pieces(part)
    chosen = np.unique(np.linspace(0, len(pieces) - 1, min(samples, len(pieces))).astype(int))
    each = math.ceil(samples / max(len(chosen), 1))
    found = []
    for number in chosen.tolist():
        some = next((s for s in pieces[number].read(refuse) if len(s)), None)
        if some is not None:
            few = some.select(seeded_order(len(some), seed, number)[:each])
            # Drawing needs no more; writers, time and pressure may be known of some pieces only.
            found.append(replace(few, writers=None, time=None, pressure=None, validate=False))
    strokes = concatenate(found)
    if not len(strokes):
        raise DataError(f"the {part} part holds no character")
    return strokes.select(np.arange(min(samples, len(strokes))))


def png(picture: Tensor) -> bytes:
    """Return a picture, uint8 of shape (3, H, W), as the bytes of a PNG file.

    Source:
        W3C, Portable Network Graphics, 2003: 8-bit RGB, no filter, one IDAT chunk.
    """
    _, height, width = picture.shape
    rows = picture.permute(1, 2, 0).reshape(height, 3 * width).cpu().numpy()
    pixels = np.pad(rows, ((0, 0), (1, 0))).tobytes()  # each row begins with its filter, 0
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
