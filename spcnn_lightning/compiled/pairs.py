"""Other views of the pairs of a kernel map; see `spcnn_lightning.core.kernel_map`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from spcnn_lightning.compiled import in_pieces, pieces_of
from spcnn_lightning.compiled.threads import in_lanes

_compile: Any = numba.njit(cache=True, nogil=True)


def windows_of(in_to_out: Tensor, outputs: int) -> Tensor:
    """Return the transposed table, int64 (M + 1, K): input rows, or N; the last row sees none."""
    n, taps = in_to_out.shape
    windows = torch.full((outputs + 1, taps), n)
    in_pieces(_transpose, n, in_to_out.numel(), in_to_out, outputs, windows)
    return windows


def pairs_of(in_to_out: Tensor, outputs: int) -> tuple[Tensor, Tensor, list[int]]:
    """Return input and output rows of all pairs, int64, grouped by tap, and the number of each."""
    pieces, counts = _counts(in_to_out, outputs)
    # Tap by tap, and within a tap piece by piece.
    starts = (counts.T.cumsum().reshape(counts.T.shape) - counts.T).T.copy()
    rows, table = np.empty((2, int(counts.sum())), np.int64), in_to_out.numpy()

    def write(piece: slice) -> None:
        _write_pairs(table, outputs, starts[pieces.index(piece)], rows, piece.start, piece.stop)

    in_lanes(write, pieces)
    rows_in, rows_out = torch.from_numpy(rows)
    return rows_in, rows_out, counts.sum(0).tolist()


def number_of_pairs(in_to_out: Tensor, outputs: int) -> int:
    """Return how many entries of the table are output rows."""
    return int(_counts(in_to_out, outputs)[1].sum())


def _counts(in_to_out: Tensor, outputs: int) -> tuple[list[slice], Any]:
    """Return pieces of the table, and how many pairs each has at each tap."""
    pieces, table = pieces_of(len(in_to_out), in_to_out.numel()), in_to_out.numpy()
    counts = np.zeros((len(pieces), table.shape[1]), np.int64)

    def count(piece: slice) -> None:
        _count_pairs(table, outputs, counts[pieces.index(piece)], piece.start, piece.stop)

    in_lanes(count, pieces)
    return pieces, counts


@_compile
def _transpose(in_to_out, outputs, windows, first, end):  # type: ignore[no-untyped-def]
    for n in range(first, end):
        for tap in range(in_to_out.shape[1]):
            if in_to_out[n, tap] < outputs:
                windows[in_to_out[n, tap], tap] = n


@_compile
def _count_pairs(in_to_out, outputs, counts, first, end):  # type: ignore[no-untyped-def]
    for n in range(first, end):
        for tap in range(in_to_out.shape[1]):
            counts[tap] += in_to_out[n, tap] < outputs


@_compile
def _write_pairs(in_to_out, outputs, starts, rows, first, end):  # type: ignore[no-untyped-def]
    """Write the pairs of some input rows, those of a tap from its start on."""
    for n in range(first, end):
        for tap in range(in_to_out.shape[1]):
            if in_to_out[n, tap] < outputs:
                place = starts[tap]
                rows[0, place], rows[1, place] = n, in_to_out[n, tap]
                starts[tap] = place + 1
