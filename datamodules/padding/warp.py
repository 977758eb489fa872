"""One bilinear warp for each picture of a batch: from maps of the plane to pixels in a field."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcnn_lightning.datamodules.padding.picture_batch import PictureBatch


class Pixels(NamedTuple):
    """N pixels of B pictures, by sample, row and column.

    Args:
        coords: int32, shape (N, 3): sample, row and column in the field, sorted in this order.
        values: float32, shape (C, N).
        dropped: int64, shape (B,): pixels that fell outside the field.
    """

    coords: Tensor
    values: Tensor
    dropped: Tensor


class Bend(NamedTuple):
    """A displacement of places, added before the linear map is undone.

    Args:
        reach: Its largest size along an axis, in pixels.
        displacement: Returns row and column displacements, float32, (B, R, S) each, for rows and
            columns (B, R, S) that are counted from the middle of the picture.
    """

    reach: float
    displacement: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def warp(
    batch: PictureBatch,
    first: NDArray[np.int64],
    spatial_shape: tuple[int, ...],
    matrices: NDArray[np.float64] | None = None,
    bend: Bend | None = None,
) -> Pixels:
    """Return pictures in a field, each point moved by a linear map about the middle of its picture.

    A pixel of the result is interpolated once, between the four pixels nearest to the point that
    the map takes to it. Nothing is returned for a pixel whose four are all outside of the picture:
    it is background. A pixel depends on its picture and map alone, to the last bit, whatever else
    is in the batch; under the identity it is unchanged.

    Args:
        batch: The pictures.
        first: shape (B, 2): row and column in the field of each picture's first pixel, as it would
            be under the identity.
        spatial_shape: Rows and columns of the field.
        matrices: shape (B, 2, 2): the maps of (row, column). None: identity.
        bend: Moves points further, before they are looked up.
    """
    device, (height, width) = batch.pixels.device, spatial_shape
    if matrices is None:
        matrices = np.broadcast_to(np.eye(2), (len(batch), 2, 2))
    rows, columns = _canvas(batch, matrices, 0.0 if bend is None else bend.reach)
    from_row, from_column = _undo(batch, rows, columns, matrices, bend)
    # Counted from the frame's first pixel, so that its last is at H + 1.
    ends = torch.from_numpy(batch.sizes + 1).float().to(device)[:, :, None, None]
    picture = (from_row > 0) & (from_row < ends[:, 0])
    picture &= (from_column > 0) & (from_column < ends[:, 1])
    row = torch.from_numpy(rows + first[:, :1]).int().to(device)[:, :, None]
    column = torch.from_numpy(columns + first[:, 1:]).int().to(device)[:, None, :]
    inside = picture & ((row >= 0) & (row < height)) & ((column >= 0) & (column < width))
    at = inside.view(-1).nonzero()[:, 0]
    sample = torch.arange(len(batch), dtype=torch.int32, device=device)[:, None, None]
    places = (_pick(x.expand(inside.shape), at) for x in (sample, row, column))
    return Pixels(
        torch.stack(list(places), 1),
        interpolate(batch, from_row, from_column, at),
        picture.sum((1, 2)) - inside.sum((1, 2)),
    )


def interpolate(batch: PictureBatch, row: Tensor, column: Tensor, at: Tensor) -> Tensor:
    """Return values between pixels, float32, shape (C, N).

    Args:
        batch: B pictures.
        row: float32, shape (B, R, S): from 0 to below H + 1, counted from the frame's first pixel.
        column: float32, shape (B, R, S): from 0 to below W + 1.
        at: int64, shape (N,): which of the B * R * S places to look at; others may hold anything.
    """
    device = batch.pixels.device
    widths = torch.from_numpy(batch.sizes[:, 1] + 2).to(device)[:, None, None]
    starts = torch.from_numpy(batch.starts[:-1]).to(device)[:, None, None]
    index = torch.int32 if batch.pixels.shape[1] < 2**31 else torch.int64
    upper, left = row.to(index), column.to(index)
    corner = _pick(upper * widths.to(index) + left + starts.to(index), at)
    below = corner + _pick(widths.to(index).expand(row.shape), at)
    down, right = _pick(row - upper, at), _pick(column - left, at)
    values = torch.empty(batch.channels, len(at), device=device)
    for plane, out in zip(batch.pixels, values, strict=True):
        a, b, c, d = (plane.index_select(0, i) for i in (corner, corner + 1, below, below + 1))
        torch.lerp(torch.lerp(a, b, right), torch.lerp(c, d, right), down, out=out)
    return values


def _undo(
    batch: PictureBatch,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    matrices: NDArray[np.float64],
    bend: Bend | None,
) -> tuple[Tensor, Tensor]:
    """Return where the pixels of the canvas come from, counted from the frame's first pixel.

    Two tensors of shape (B, rows, columns), float32: rows and columns.
    """
    device = batch.pixels.device
    middle = (batch.sizes - 1) / 2
    row = torch.from_numpy(rows - middle[:, :1]).float().to(device)[:, :, None]
    column = torch.from_numpy(columns - middle[:, 1:]).float().to(device)[:, None, :]
    if bend is not None:
        shape = (len(batch), len(rows), len(columns))
        row, column = row.expand(shape), column.expand(shape)
        down, right = bend.displacement(row, column)
        row, column = row + down, column + right
    inverse = torch.from_numpy(np.linalg.inv(matrices).astype(np.float32)).to(device)
    a, b, c, d = (inverse[:, i, j, None, None] for i in (0, 1) for j in (0, 1))
    origin = torch.from_numpy(middle + 1).float().to(device)[:, :, None, None]
    return a * row + b * column + origin[:, 0], c * row + d * column + origin[:, 1]


def _canvas(
    batch: PictureBatch, matrices: NDArray[np.float64], reach: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns that hold every warped picture, counted from its first pixel."""
    if not len(batch):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    extents = (np.abs(matrices) @ ((batch.sizes + 1) / 2)[:, :, None])[:, :, 0] + reach
    middle = (batch.sizes - 1) / 2
    first = np.floor((middle - extents).min(0)).astype(np.int64)
    last = np.ceil((middle + extents).max(0)).astype(np.int64)
    return np.arange(first[0], last[0] + 1), np.arange(first[1], last[1] + 1)


def _pick(dense: Tensor, at: Tensor) -> Tensor:
    return dense.reshape(-1).index_select(0, at)
