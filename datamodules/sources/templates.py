"""Characters in the arrays of an npz file: one template for each."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.base import OnDamage, refuse
from spcnn_lightning.datamodules.sources.files import LARGEST_FILE
from spcnn_lightning.datamodules.sources.parsing import LARGEST_COORDINATE, Doubles, shortened
from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of

Integers = NDArray[np.int64]

ARRAYS = ("chars", "strokes_per_char", "points_per_stroke", "xy", "canvas")
_NO_TEMPLATES = (
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
)


class Templates(NamedTuple):
    """Named characters.

    Args:
        names: Each a character.
        strokes: One for each name, label n that of the n-th; none for damaged ones.
        box: Width of the square that they are drawn in.
    """

    names: tuple[str, ...]
    strokes: StrokeSet
    box: float


def read_templates(path: Path, on_damage: OnDamage = refuse) -> Templates:
    """Read templates from an npz file of arrays.

    ``chars`` (B,) code points; ``strokes_per_char`` (B,); ``points_per_stroke`` (S,); ``xy``
    (P, 2), y downwards; ``canvas`` (2,), width and height.

    Args:
        path: The file.
        on_damage: Is told of each character without a stroke, with a stroke without a point, or
            with a coordinate that is not finite or too large; it is left out.

    Raises:
        DataError: If the file cannot be read, the arrays do not fit together, or a character is
            there twice.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            codes, strokes, points, xy, canvas = (_read_array(archive, name) for name in ARRAYS)
        names = tuple(map(chr, codes.tolist()))
        yx, box = xy[:, [1, 0]].astype(np.float64), float(canvas[0])
    except _NO_TEMPLATES as error:
        raise DataError(
            f"{path}: holds no templates ({str(error)[:300]}): get the file again"
        ) from error
    _require_different(names, path)
    if len(strokes) != len(names):
        raise DataError(f"{path}: strokes_per_char of {len(strokes)} for {len(names)} characters")
    strokes = _counts(strokes, len(points), f"{path}: strokes_per_char")
    points = _counts(points, len(yx), f"{path}: points_per_stroke")
    faults = _faults(strokes, points, yx)
    for index, fault in faults.items():
        on_damage(DataError(f"{path}: character {index} ({names[index]!r}): {fault}"))
    kept = np.setdiff1d(np.arange(len(names)), list(faults))
    return Templates(names, _select(kept, strokes, points, yx), box)


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Return an array; what its header claims is compared with the file before room is made."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        is_first = npy.read_magic(file) == (1, 0)
        read_header = npy.read_array_header_1_0 if is_first else npy.read_array_header_2_0
        shape, columns_first, dtype = read_header(file)
        size, there = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
        if size != there or size > LARGEST_FILE:
            raise ValueError(
                f"{name} of shape {shape} is {size} bytes and {there} follow the header, expected "
                f"as many, and at most {LARGEST_FILE}"
            )
        data = file.read(size)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if columns_first else "C")


def _require_different(names: tuple[str, ...], path: Path) -> None:
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        if (first := places.setdefault(name, place)) != place:
            raise DataError(f"{path}: {name!r} is both character {first} and character {place}")


def _counts(counts: NDArray[Any], total: int, what: str) -> Integers:
    """Return numbers of items that together are ``total``."""
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise DataError(f"{what} has shape {counts.shape} and dtype {counts.dtype}, expected (n,)")
    # Each by itself too: a sum of damaged numbers may overflow.
    if (counts < 0).any() or (counts > total).any() or counts.sum() != total:
        raise DataError(f"{what} is {shortened(counts.tolist())}, expected a sum of {total}")
    return counts.astype(np.int64)


def _faults(strokes: Integers, points: Integers, yx: Doubles) -> dict[int, str]:
    """Return what is wrong with each damaged character."""
    character = np.repeat(np.arange(len(strokes)), strokes)  # of each stroke
    stroke = np.repeat(np.arange(len(points)), points)  # of each point
    faults = {int(index): "without a stroke" for index in np.flatnonzero(strokes == 0)}
    for index in np.flatnonzero(points == 0):
        faults[int(character[index])] = f"stroke {index} is without a point"
    for place, axis in np.argwhere(~(np.abs(yx) <= LARGEST_COORDINATE)):
        faults[int(character[stroke[place]])] = (
            f"point {place} has the coordinate {yx[place, axis]:g}, expected at most "
            f"{LARGEST_COORDINATE:g} in size"
        )
    return dict(sorted(faults.items()))


def _select(kept: Integers, strokes: Integers, points: Integers, yx: Doubles) -> StrokeSet:
    character = np.repeat(np.arange(len(strokes)), strokes)
    in_kept = np.isin(character, kept)
    return StrokeSet(
        yx[np.repeat(in_kept, points)].astype(np.float32),
        offsets_of(points[in_kept]),
        offsets_of(strokes[kept]),
        kept,
    )
