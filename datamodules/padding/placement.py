"""Placement: where in its field a picture stands."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.randomness import SampleRandom

Anchor = Literal["centre", "corner", "random"]
Placement = Anchor | tuple[int, int]
"""In the middle (the paper), at row and column 0, anywhere, or with its first pixel at (r, c)."""


class PictureTooLargeError(DataError):
    """A picture does not fit into its field.

    Attributes:
        number: Of the picture in its data set.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number

    def __reduce__(self) -> tuple[type[PictureTooLargeError], tuple[int, str]]:
        return type(self), (self.number, str(self))


def check_placement(placement: Placement, spatial_shape: tuple[int, ...]) -> None:
    """Raise ValueError if ``placement`` is none."""
    if isinstance(placement, str):
        valid = placement in get_args(Anchor)
    else:
        row, column = placement
        valid = 0 <= row < spatial_shape[0] and 0 <= column < spatial_shape[1]
    if valid:
        return
    raise ValueError(
        f"placement is {placement!r}: give centre, corner, random, or the row and column of a "
        f"picture's first pixel in the field of {spatial_shape} sites"
    )


def first_sites(
    placement: Placement,
    sizes: NDArray[np.int64],
    spatial_shape: tuple[int, ...],
    random: SampleRandom,
) -> NDArray[np.int64]:
    """Return the row and column of each picture's first pixel, int64, shape (B, 2).

    Args:
        placement: Where pictures stand.
        sizes: int64, shape (B, 2): height and width of each.
        spatial_shape: Rows and columns of the field.
        random: Decides where "random" pictures stand, whole in the field.

    Raises:
        PictureTooLargeError: If a picture does not fit.
    """
    field = np.array(spatial_shape, np.int64)
    given = np.zeros(2, np.int64) if isinstance(placement, str) else np.array(placement, np.int64)
    room = field - sizes - given
    if (room < 0).any():
        sample = int((room < 0).any(1).argmax())
        height, width = sizes[sample].tolist()
        raise PictureTooLargeError(
            int(random.indices[sample]),
            f"picture {random.indices[sample]} has {height} x {width} pixels and does not fit into "
            f"a field of {spatial_shape[0]} x {spatial_shape[1]} sites, placement {placement!r}: "
            "take a larger spatial_shape, or smaller pictures",
        )
    first = np.tile(given, (len(sizes), 1))
    if placement == "centre":
        first = field // 2 - sizes // 2
    elif placement == "random":
        first = np.floor(random.uniform_table(2) * (room + 1)).astype(np.int64)
    return first
