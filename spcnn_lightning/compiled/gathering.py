"""Rows side by side, as a window sees them."""

from __future__ import annotations

from typing import Any

import numba
from torch import Tensor

from spcnn_lightning.compiled import in_pieces

_compile: Any = numba.njit(cache=True, nogil=True)


def gather(rows: Tensor, table: Tensor, out: Tensor) -> None:
    """Write ``rows[table]`` to ``out``, with zeros where the table has no row.

    Args:
        rows: Shape (N, C), contiguous.
        table: int64, shape (M, K): row numbers, or N.
        out: Shape (M, K * C), contiguous, of the dtype of ``rows``.
    """
    in_pieces(_gather, len(table), out.numel(), rows, table, out)


@_compile
def _gather(rows, table, out, first, end):  # type: ignore[no-untyped-def]
    channels = rows.shape[1]
    for m in range(first, end):
        for tap in range(table.shape[1]):
            n, start = table[m, tap], tap * channels
            if n < len(rows):
                for c in range(channels):
                    out[m, start + c] = rows[n, c]
            else:
                for c in range(channels):
                    out[m, start + c] = 0
