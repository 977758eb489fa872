"""Kernel maps in passes over the candidates; see `spcnn_lightning.core.kernel_map`.

Sites are numbered by bits: one bit for each site of the boxes that output sites of a sample may lie
in, and for each word of 64 bits how many are set before it, so that a site's row is counted and
never searched for. However large the field is, only these boxes count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spcnn_lightning.compiled import in_pieces
from spcnn_lightning.compiled.pairs import number_of_pairs

FIELD_FACTOR = 256
"""Boxes of at most this many sites for each (input site, tap) are numbered by bits.

That is 64 bytes for each candidate, and 4 words to look at.
"""
WORK_OF_A_CANDIDATE = 8
"""Numbers that are moved in the time that one (input site, tap) takes."""

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
    """Return the pairs of a window, or None if sites lie too far apart for one bit a site.

    Args:
        coords: int32, shape (N, 1 + D), contiguous: the input sites.
        batch_size: Number of samples.
        shape: Sizes of the output field.
        steps: For each tap and axis: ``stride * output = input + step``.
        stride: Of the window.
        same_sites: The output sites are the input sites, in their order.
    """
    n, taps = len(coords), len(steps)
    window = np.array(steps, np.int64), np.array(stride, np.int64)
    # No window need lead from a site to itself, but sites that are kept must lie in their box.
    reach = np.vstack([window[0], np.zeros_like(window[0][:1])]) if same_sites else window[0]
    field = _Field(coords, batch_size, shape, reach, window[1])
    if field.volume > FIELD_FACTOR * n * taps:
        return None
    keys = field.keys(*window)
    words = np.zeros(field.volume // 64 + 1, np.uint64)
    before = np.empty(len(words), np.int64)
    if same_sites:
        own = field.keys(np.zeros((1, len(shape)), np.int64), np.ones(len(shape), np.int64))
        m = _count(own, words, before)
        row_of_number = np.empty(m, np.int64)
        _rows_in_order(own, words, before, row_of_number)
        found = field.coords
    else:
        m = _count(keys, words, before)
        row_of_number = np.arange(m)
        found = np.empty((m, coords.shape[1]), np.int32)
        work = found.size * WORK_OF_A_CANDIDATE
        boxes = field.boxes, field.firsts
        in_pieces(_list_sites, len(words), work, words, before, *boxes, found)
    work = keys.size * WORK_OF_A_CANDIDATE
    in_pieces(_to_rows, n, work, keys, words, before, row_of_number, m)
    in_to_out = torch.from_numpy(keys)
    return Found(torch.from_numpy(found), in_to_out, number_of_pairs(in_to_out, m))


class _Field:
    """For each sample the box of the output field that a window may lead to from its sites.

    Attributes:
        coords: The input sites.
        boxes: int64, shape (B, D, 2): the first place of a box along an axis, and its size.
        firsts: int64, shape (B + 1,): how many sites the boxes of earlier samples have.
    """

    def __init__(
        self, coords: Tensor, batch_size: int, shape: Sequence[int], steps: Any, stride: Any
    ) -> None:
        self.coords, self.sizes = coords.numpy(), np.array(shape, np.int64)
        self.boxes = np.empty((batch_size, len(shape), 2), np.int64)
        self.firsts = np.empty(batch_size + 1, np.int64)
        _find_boxes(self.coords, steps, stride, self.sizes, self.boxes, self.firsts)

    @property
    def volume(self) -> int:
        """Sites of all boxes together."""
        return int(self.firsts[-1])

    def keys(self, steps: Any, stride: Any) -> Any:
        """Return the number of the site of each candidate, int64 (N, K), or -1 for none."""
        keys = np.empty((len(self.coords), len(steps)), np.int64)
        window = steps, stride, self.sizes, self.boxes, self.firsts
        work = keys.size * WORK_OF_A_CANDIDATE
        in_pieces(_find_keys, len(keys), work, self.coords, *window, keys)
        return keys


@_compile
def _find_boxes(coords, steps, stride, sizes, boxes, firsts):  # type: ignore[no-untyped-def]
    boxes[:, :, 0], boxes[:, :, 1] = 2**31, -1  # of no sites: a box without any
    for n in range(len(coords)):  # the least and the largest place
        box = boxes[coords[n, 0]]
        for axis in range(len(sizes)):
            place = np.int64(coords[n, axis + 1])
            box[axis, 0] = min(box[axis, 0], place)
            box[axis, 1] = max(box[axis, 1], place)
    firsts[0] = 0
    for sample in range(len(boxes)):
        volume = np.int64(1)
        for axis in range(len(sizes)):
            low, high = boxes[sample, axis]
            low = max(0, (low + steps[:, axis].min()) // stride[axis])
            high = min(sizes[axis] - 1, (high + steps[:, axis].max()) // stride[axis])
            boxes[sample, axis, 0], boxes[sample, axis, 1] = low, max(0, high - low + 1)
            volume *= boxes[sample, axis, 1]
        firsts[sample + 1] = firsts[sample] + volume


@_compile
def _find_keys(  # type: ignore[no-untyped-def]
    coords, steps, stride, sizes, boxes, firsts, keys, first, end
):
    for n in range(first, end):
        box = boxes[coords[n, 0]]
        for tap in range(len(steps)):
            key = np.int64(0)
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
                key = key * box[axis, 1] + place - box[axis, 0]
            keys[n, tap] = key if key < 0 else key + firsts[coords[n, 0]]


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
def _list_sites(words, before, boxes, firsts, coords, first, end):  # type: ignore[no-untyped-def]
    """Write the sites whose bits are set, in order."""
    sample = 0
    for place in range(first, end):
        word, row = words[place], before[place]
        while word:
            lowest = word & (~word + np.uint64(1))
            key = place * 64 + _bits(lowest - np.uint64(1))
            while key >= firsts[sample + 1]:
                sample += 1
            key -= firsts[sample]
            for axis in range(boxes.shape[1] - 1, -1, -1):
                low, size = boxes[sample, axis]
                coords[row, axis + 1] = low + key % size
                key //= size
            coords[row, 0] = sample
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
