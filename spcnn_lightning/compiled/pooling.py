"""Max pooling in one pass over the rows; see `spcnn_lightning.nn.pooling_kernels` for the rules."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spcnn_lightning.compiled import in_pieces
from spcnn_lightning.compiled.arrays import array_of, number

_compile: Any = numba.njit(cache=True, nogil=True)


def max_of_windows(x: Tensor, ground: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window and its slot, both of shape (M, C).

    Args:
        x: Shape (N, C), contiguous.
        ground: Shape (C,): what stands in slots without a row.
        table: int64, shape (M, K): a row of ``x``, or N; K is at most 254.

    Returns:
        The maxima, and the first slot that holds them, uint8; K for the ground state.
    """
    rows, channels = len(table), x.shape[1]
    best = x.new_empty(rows, channels)
    winner = torch.empty(rows, channels, dtype=torch.uint8)
    arrays = array_of(x), array_of(ground), table, array_of(best), winner
    in_pieces(_max, rows, table.numel() * channels, *arrays)
    return best, winner


def gradient_of_sites(grad: Tensor, winner: Tensor, table: Tensor) -> Tensor:
    """Return for each row of the input the gradients of the windows that it won, shape (N, C).

    Args:
        grad: Of the maxima, shape (M, C), contiguous.
        winner: From `max_of_windows`.
        table: int64, shape (N, K): the window in which the row has this slot, or M.
    """
    out = grad.new_empty(len(table), grad.shape[1])
    in_pieces(_gradient, len(table), out.numel(), grad, winner, table, out)
    return out


def gradient_of_disjoint(
    grad: Tensor, winner: Tensor, table: Tensor, rows: int, pairs: int
) -> Tensor:
    """Return the same where no two windows share a site, from the windows' side.

    Args:
        grad: Of the maxima, shape (M, C), contiguous.
        winner: From `max_of_windows`.
        table: int64, shape (M, K): the row in a slot of a window, or N.
        rows: N.
        pairs: How many entries of the table are rows.
    """
    out = grad.new_empty(rows, grad.shape[1])
    if pairs < rows:
        out.zero_()  # some lie in no window
    in_pieces(_spread, len(table), out.numel(), array_of(grad), winner, table, array_of(out))
    return out


def gradient_of_ground(grad: Tensor, winner: Tensor, taps: int) -> Tensor:
    """Return the sum of the gradients of all windows that the ground state won, shape (C,).

    Torch adds up, as it does without compiled loops: the same bits.
    """
    won = torch.empty_like(grad)
    in_pieces(_keep_ground, len(grad), grad.numel(), array_of(grad), winner, taps, array_of(won))
    return (won.float() if grad.dtype is torch.bfloat16 else won).sum(0).to(grad.dtype)


@_compile
def _max(x, ground, table, best, winner, first, end):  # type: ignore[no-untyped-def]
    taps, channels = table.shape[1], x.shape[1]
    for m in range(first, end):
        for tap in range(taps):
            n = table[m, tap]
            if n < len(x):
                row, slot = x[n], np.uint8(tap)
            else:
                row, slot = ground, np.uint8(taps)
            if tap == 0:
                for c in range(channels):
                    best[m, c] = row[c]
                    winner[m, c] = slot
            else:
                for c in range(channels):
                    value = number(row[c])
                    # Strict: the first of equal values keeps its place. NaN wins, as in torch.
                    wins = (value > number(best[m, c])) | np.isnan(value)
                    best[m, c] = row[c] if wins else best[m, c]
                    winner[m, c] = slot if wins else winner[m, c]


@_compile
def _gradient(grad, winner, table, out, first, end):  # type: ignore[no-untyped-def]
    windows, channels = len(grad), grad.shape[1]
    for n in range(first, end):
        for c in range(channels):
            out[n, c] = 0
        for tap in range(table.shape[1]):
            m = table[n, tap]
            if m < windows:
                for c in range(channels):
                    # No product: what is not finite would become NaN where it does not belong.
                    out[n, c] += grad[m, c] if winner[m, c] == tap else out.dtype.type(0)


@_compile
def _spread(grad, winner, table, out, first, end):  # type: ignore[no-untyped-def]
    channels = grad.shape[1]
    for m in range(first, end):
        some, slots = grad[m], winner[m]
        for tap in range(table.shape[1]):
            n, slot = table[m, tap], np.uint8(tap)
            if n < len(out):
                row = out[n]
                for c in range(channels):
                    row[c] = some[c] if slots[c] == slot else out.dtype.type(0)


@_compile
def _keep_ground(grad, winner, taps, won, first, end):  # type: ignore[no-untyped-def]
    for m in range(first, end):
        for c in range(grad.shape[1]):
            won[m, c] = grad[m, c] if winner[m, c] == taps else grad.dtype.type(0)
