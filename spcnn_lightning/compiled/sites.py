"""Kernel maps in passes over the candidates; see `spcnn_lightning.core.kernel_map`.

Sites are numbered by bits: one bit for each site of the output field, and for each word of 64 bits
how many are set before it, so that a site's row is counted and never searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spcnn_lightning.compiled import in_pieces, pieces_of
from spcnn_lightning.compiled.threads import in_lanes

FIELD_FACTOR = 256
"""A field with at most this many sites for each (input site, tap) is numbered by bits.

That is 48 bytes for each candidate, and 4 words to look at.
"""

_compile: Any = numba.njit(cache=True, nogil=True)


class Found(NamedTuple):
    """The pairs of a window.

    Attributes:
        coords: int32, shape (M, 1 + D): the output sites, in the order of their keys.
        in_to_out: int64, shape (N, K): output rows, or M.
        num_pairs: How many pairs there are.
    """

    coords: Tensor
    in_to_out: Tensor
    num_pairs: int


def find_pairs(
    coords: Tensor,
    batch_size: int,
    shape: Sequence[int],
    steps: Sequence[Sequence[int]],
    stride: Sequence[int],
    same_sites: bool,
) -> Found | None:
    """Return the pairs of a window, or None if the field is too large for one bit a site.

    Args:
        coords: int32, shape (N, 1 + D), contiguous: the input sites.
        batch_size: Number of samples.
        shape: Sizes of the output field.
        steps: For each tap and axis: ``stride * output = input + step``.
        stride: Of the window.
        same_sites: The output sites are the input sites, in their order.
    """
    sites, (n, taps) = batch_size * int(np.prod(shape, dtype=object)), (len(coords), len(steps))
    if sites > FIELD_FACTOR * n * taps:
        return None
    keys = np.empty((n, taps), np.int64)
    sizes = np.array(shape, np.int64)
    of_sites = coords.numpy()
    window = np.array(steps, np.int64), np.array(stride, np.int64)
    in_pieces(_find_keys, n, keys.size, of_sites, *window, sizes, keys)
    words = np.zeros(sites // 64 + 1, np.uint64)
    before = np.empty(len(words), np.int64)
    if same_sites:
        still = np.zeros((1, len(shape)), np.int64), np.ones(len(shape), np.int64)
        own = np.empty((n, 1), np.int64)
        in_pieces(_find_keys, n, n, of_sites, *still, sizes, own)
        m = _count(own, words, before)
        row_of_number = np.empty(m, np.int64)
        _rows_in_order(own, words, before, row_of_number)
        found = of_sites
    else:
        m = _count(keys, words, before)
        row_of_number = np.arange(m)
        found = np.empty((m, coords.shape[1]), np.int32)
        _list_sites(words, sizes, found)
    in_pieces(_to_rows, n, keys.size, keys, words, before, row_of_number, m)
    in_to_out = torch.from_numpy(keys)
    return Found(torch.from_numpy(found), in_to_out, int(_counts(in_to_out, m)[1].sum()))


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


def _counts(in_to_out: Tensor, outputs: int) -> tuple[list[slice], Any]:
    """Return pieces of the table, and how many pairs each has at each tap."""
    pieces, table = pieces_of(len(in_to_out), in_to_out.numel()), in_to_out.numpy()
    counts = np.zeros((len(pieces), table.shape[1]), np.int64)

    def count(piece: slice) -> None:
        _count_pairs(table, outputs, counts[pieces.index(piece)], piece.start, piece.stop)

    in_lanes(count, pieces)
    return pieces, counts


@_compile
def _find_keys(coords, steps, stride, sizes, keys, first, end):  # type: ignore[no-untyped-def]
    """Write the row-major number of the output site of each candidate, or -1."""
    for n in range(first, end):
        for tap in range(len(steps)):
            key = np.int64(coords[n, 0])
            for axis in range(len(sizes)):
                place = coords[n, axis + 1] + steps[tap, axis]
                if stride[axis] > 1:
                    if place % stride[axis] != 0:
                        key = -1
                        break
                    place //= stride[axis]
                if place < 0 or place >= sizes[axis]:
                    key = -1
                    break
                key = key * sizes[axis] + place
            keys[n, tap] = key


@_compile
def _count(keys, words, before):  # type: ignore[no-untyped-def]
    """Set the bits of all keys, and count how many are set before each word; return all."""
    for n in range(keys.shape[0]):
        for tap in range(keys.shape[1]):
            if keys[n, tap] >= 0:
                words[keys[n, tap] >> 6] |= np.uint64(1) << np.uint64(keys[n, tap] & 63)
    total = 0
    for word in range(len(words)):
        before[word] = total
        if words[word]:
            total += _bits(words[word])
    return total


@_compile
def _bits(word):  # type: ignore[no-untyped-def]
    """Return how many bits are set."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    pairs = np.uint64(0x3333333333333333)
    word = (word & pairs) + ((word >> np.uint64(2)) & pairs)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@_compile
def _number(key, words, before):  # type: ignore[no-untyped-def]
    """Return how many keys that are set are smaller, or -1 if this one is not set."""
    word, bit = words[key >> 6], np.uint64(1) << np.uint64(key & 63)
    if not word & bit:
        return np.int64(-1)
    return before[key >> 6] + _bits(word & (bit - np.uint64(1)))


@_compile
def _rows_in_order(keys, words, before, row_of_number):  # type: ignore[no-untyped-def]
    for n in range(len(keys)):
        row_of_number[_number(keys[n, 0], words, before)] = n


@_compile
def _list_sites(words, sizes, coords):  # type: ignore[no-untyped-def]
    """Write the sites whose bits are set, in order."""
    row = 0
    for place in range(len(words)):
        word = words[place]
        while word:
            lowest = word & (~word + np.uint64(1))
            key = place * 64 + _bits(lowest - np.uint64(1))
            for axis in range(len(sizes) - 1, -1, -1):
                coords[row, axis + 1] = key % sizes[axis]
                key //= sizes[axis]
            coords[row, 0] = key
            word ^= lowest
            row += 1


@_compile
def _to_rows(keys, words, before, row_of_number, outputs, first, end):  # type: ignore[no-untyped-def]
    """Replace keys by rows."""
    for n in range(first, end):
        for tap in range(keys.shape[1]):
            row = np.int64(outputs)
            if keys[n, tap] >= 0:
                number = _number(keys[n, tap], words, before)
                if number >= 0:
                    row = row_of_number[number]
            keys[n, tap] = row


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
