"""Products of rows, added up where their windows are while they are in the cache."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numba
import numpy as np
from torch import Tensor

from spcnn_lightning.compiled import in_pieces
from spcnn_lightning.compiled.arrays import array_of, number

LONGEST_LANE = 1.3
"""Times its share of the rows; with longer ones, threads had better share each operation."""

_compile: Any = numba.njit(cache=True, nogil=True)


def in_order(sources: Tensor, rows: int) -> bool:
    """Return whether adding row by row adds up each window in the order of its taps.

    Then the sums have the same bits as those of whole windows. It is so where sites are sorted.

    Args:
        sources: int64, shape (M, K): the row that a window has at a tap, or ``rows``.
        rows: How many there are.
    """
    return bool(_in_order(sources.numpy(), rows))


def lanes(targets: Tensor, windows: int, count: int) -> list[slice]:
    """Return about equal parts of the rows that share no window, or one part if there are none.

    Rows are listed sample by sample as a rule, and samples share no window.

    Args:
        targets: int64, shape (N, K): the window that has a row at a tap, or ``windows``.
        windows: How many there are.
        count: How many parts to look for.
    """
    rows = len(targets)
    whole = [slice(0, rows)]
    if count == 1 or not rows:
        return whole
    starts = np.empty(rows, np.bool_)
    _find_starts(targets.numpy(), windows, starts)
    (places,) = starts.nonzero()
    wanted = rows * np.arange(1, count) // count
    behind = np.searchsorted(places, wanted)
    before, after = places[behind - 1], places.take(behind, mode="clip")  # row 0 is a start
    cuts = np.where(wanted - before < after - wanted, before, after)
    bounds = [0, *np.unique(cuts).tolist(), rows]
    found = [slice(*ends) for ends in pairwise(bounds) if ends[0] < ends[1]]
    longest = max(part.stop - part.start for part in found)
    return found if longest * count <= LONGEST_LANE * rows else whole


class Adder:
    """Adds blocks of rows to the windows that have them.

    Args:
        block: Shape (rows of a block, K * C), contiguous: for each row and tap what to add; of the
            dtype of ``out``, or bfloat16.
        targets: int64, shape (N, K): the window that has a row at a tap, or M.
        out: Sums, shape (M, C), contiguous; float32 where the block is bfloat16.
    """

    def __init__(self, block: Tensor, targets: Tensor, out: Tensor) -> None:
        self.targets, self.out, self.block = targets.numpy(), out.numpy(), array_of(block)

    def __call__(self, part: slice) -> None:
        """Add the beginning of the block, which holds these rows."""
        targets, channels = self.targets[part], self.out.shape[1]
        numbers = targets.size * channels
        in_pieces(_add, channels, numbers, self.block, targets, self.out)


@_compile
def _find_starts(targets, windows, starts):  # type: ignore[no-untyped-def]
    """Say of each row whether no window of it or of a later row is one of an earlier row."""
    first, later = np.empty(len(targets), np.int64), windows
    for n in range(len(targets) - 1, -1, -1):
        for tap in range(targets.shape[1]):
            later = min(later, targets[n, tap])
        first[n] = later
    earlier = -1
    for n in range(len(targets)):
        starts[n] = earlier < first[n]
        for tap in range(targets.shape[1]):
            if targets[n, tap] < windows:
                earlier = max(earlier, targets[n, tap])


@_compile
def _in_order(sources, rows):  # type: ignore[no-untyped-def]
    for m in range(len(sources)):
        last = -1
        for tap in range(sources.shape[1]):
            if sources[m, tap] < rows:
                if sources[m, tap] < last:
                    return False
                last = sources[m, tap]
    return True


@_compile
def _add(block, targets, out, first, end):  # type: ignore[no-untyped-def]
    windows, channels = out.shape
    for n in range(len(targets)):
        for tap in range(targets.shape[1]):
            m, start = targets[n, tap], tap * channels
            if m < windows:
                total, some = out[m, first:end], block[n, start + first : start + end]
                for c in range(len(total)):  # of slices: indices that cannot be negative
                    total[c] += number(some[c])
