"""Random linear maps of the plane: the paper's stretch, and then rotation or slant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def random_maps(draws: Floats, stretch: float, rotate: float, slant: float) -> Floats:
    """Return maps of (row, column) about the origin, shape (B, 2, 2).

    Rows and columns are stretched by 1 + U(-stretch, stretch) each. Then comes one of three, with
    equal probability: rotation by U(-rotate, rotate) radians, slant of the columns, or slant of the
    rows, by U(-slant, slant).

    Args:
        draws: Uniform in [0, 1), shape (4, B).
        stretch: Below 1.
        rotate: In radians.
        slant: In columns per row, or rows per column.
    """
    height = 1 + between(-stretch, stretch, draws[0])
    width = 1 + between(-stretch, stretch, draws[1])
    kind = np.floor(draws[2] * 3).astype(np.int64)
    amount = between(-1.0, 1.0, draws[3])
    angle, slanted = amount * rotate, amount * slant
    turns, slants_columns, slants_rows = kind == 0, kind == 1, kind == 2
    a = d = np.where(turns, np.cos(angle), 1.0)
    b = np.where(turns, np.sin(angle), np.where(slants_rows, slanted, 0.0))
    c = np.where(turns, -np.sin(angle), np.where(slants_columns, slanted, 0.0))
    return np.stack([a * height, b * width, c * height, d * width], axis=-1).reshape(-1, 2, 2)


def between(low: float, high: float, unit: Floats) -> Floats:
    """Return uniform numbers from ``low`` to ``high``, from such from 0 to 1."""
    return low + (high - low) * unit
