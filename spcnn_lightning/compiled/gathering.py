"""Rows side by side, as a window sees them."""

from __future__ import annotations

from typing import Any

import numba
from torch import Tensor

from spcnn_lightning.compiled import in_pieces

_compile: Any = numba.njit(cache=True, nogil=True)


class Gatherer:
    """Writes ``rows[table]``, with zeros where the table has no row, a block at a time.

    Args:
        rows: Shape (N, C), contiguous.
        table: int64, shape (M, K): row numbers, or N.
        block: Where it is written, shape (rows of a block, K * C), contiguous, of the dtype of
            ``rows``.
    """

    def __init__(self, rows: Tensor, table: Tensor, block: Tensor) -> None:
        # Once, and not for each block: that takes as long as a small block itself.
        self.rows, self.table = rows.detach().numpy(), table.numpy()
        self.block = block.numpy()

    def __call__(self, part: slice) -> None:
        """Write these rows of the table to the beginning of the block."""
        table = self.table[part]
        numbers = len(table) * self.block.shape[1]
        in_pieces(_gather, len(table), numbers, self.rows, table, self.block)


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
