"""Drawing characters of a source into a PNG file."""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path

import numpy as np
from torch import Tensor

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import Bitmap, HandwritingDataset, Rasteriser
from spcnn_lightning.datamodules.joining import concatenate
from spcnn_lightning.datamodules.randomness import seeded_order
from spcnn_lightning.datamodules.sources import StrokeSource
from spcnn_lightning.datamodules.sources.base import refuse
from spcnn_lightning.datamodules.strokes import StrokeSet
from spcnn_lightning.modules.drawing import draw_gallery, draw_samples

FIELD, BOX = 96, 80


def show(source: StrokeSource, part: str, samples: int, out: Path, seed: int) -> None:
    """Draw some characters of a part into a PNG file.

    Raises:
        DataError: If the part holds nothing or is damaged, or ``samples`` is not positive.
    """
    if samples < 1:
        raise DataError(f"--samples is {samples}, expected at least 1")
    strokes = choose(source, part, samples, seed)
    dataset = HandwritingDataset(strokes, Rasteriser((FIELD, FIELD), BOX, Bitmap()))
    batch, _ = dataset.prepare(range(len(strokes)))
    captions = [source.class_names[label] for label in strokes.labels]
    picture = draw_gallery(draw_samples(batch, range(len(strokes))), captions)
    out.write_bytes(png(picture))
    print(f"{len(strokes)} characters of the {part} part: {out}")


def choose(source: StrokeSource, part: str, samples: int, seed: int) -> StrokeSet:
    """Return characters from pieces all over the part; of each only its beginning is read.

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
            found.append(some.select(seeded_order(len(some), seed, number)[:each]))
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
