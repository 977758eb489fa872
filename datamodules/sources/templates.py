"""Characters in the arrays of an npz file: one template for each."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of


class Templates(NamedTuple):
    """Named characters, of which label n is the n-th.

    Args:
        names: Each a character.
        strokes: One for each name.
        box: Width of the square that they are drawn in.
    """

    names: tuple[str, ...]
    strokes: StrokeSet
    box: float


def read_templates(path: Path) -> Templates:
    """Read templates from an npz file of arrays.

    ``chars`` (B,) code points; ``strokes_per_char`` (B,); ``points_per_stroke`` (S,); ``xy``
    (P, 2), y downwards; ``canvas`` (2,), width and height.

    Raises:
        DataError: If the file cannot be read, or the arrays do not fit together.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            codes, width = arrays["chars"], float(arrays["canvas"][0])
            strokes = StrokeSet(
                arrays["xy"][:, [1, 0]].astype(np.float32),
                offsets_of(arrays["points_per_stroke"].astype(np.int64)),
                offsets_of(arrays["strokes_per_char"].astype(np.int64)),
                np.arange(len(codes)),
            )
        return Templates(tuple(map(chr, codes.tolist())), strokes, width)
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        EOFError,
        OverflowError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path}: holds no templates ({str(error)[:200]}): get the file again"
        ) from error
