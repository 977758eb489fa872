"""What the ways of the torch backend share: blocks and lanes of rows, and sums of products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.compiled.threads import has_lanes, num_threads

MAX_BUFFER = 2**26
"""Most numbers in a buffer; a larger one is never built."""
CACHE_BLOCK = 2**19
"""Numbers in a block for each thread on a CPU, so that it stays in the cache: 2 MiB in float32."""
LEAST_ROWS = 256
"""Rows of a block on a CPU; a matrix product of fewer is slow."""


def difference_to(ground: Tensor | None, most: int) -> Callable[[Tensor], Tensor]:
    """Return a function that takes the ground state from rows, at most so many.

    The results of one such function stand where the last ones were.
    """
    if ground is None:
        return lambda rows: rows
    buffer = ground.new_empty(most, len(ground))
    return lambda rows: torch.sub(rows, ground, out=buffer[: len(rows)])


class Sums:
    """Adds up products of blocks, in float32 where the numbers are shorter."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.sums: Tensor | None = None

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add ``left.T @ right``."""
        if self.sums is not None and self.dtype.itemsize >= 4:
            self.sums.addmm_(left.T, right)
            return
        # Autocast, which is a matter of threads, changes no product that has a place to go to.
        product = torch.mm(left.T, right, out=left.new_empty(left.shape[1], right.shape[1]))
        if self.sums is None:
            self.sums = product.to(dtype_of_sums(left))
        else:
            self.sums += product


def total(of_lanes: list[Sums]) -> Tensor:
    """Return the sum of all lanes in the dtype of the products; each must have one product."""
    sums = [lane.sums for lane in of_lanes if lane.sums is not None]
    for other in sums[1:]:
        sums[0] += other
    return sums[0].to(of_lanes[0].dtype)


def dtype_of_sums(rows: Tensor) -> torch.dtype:
    """Return float32 for shorter numbers, which many terms would round again and again."""
    return rows.dtype if rows.dtype.itemsize >= 4 else torch.float32


class Windows:
    """The matrix ``rows[table]``, shape (M, K * C), with zeros where there is no row, in blocks.

    Args:
        rows: Shape (N, C).
        table: Shape (M, K): row numbers, or N.
        complete: Whether the table is known to have no N.
    """

    def __init__(self, rows: Tensor, table: Tensor, complete: bool = False) -> None:
        bits = rows.contiguous()
        if rows.element_size() == 2:
            bits = bits.view(torch.int16)  # gathering moves bits, whatever they mean
        self.compiled = compiled_for(table.numel() * rows.shape[1], bits)
        if not self.compiled and not complete:
            bits = torch.cat([bits, bits.new_zeros(1, rows.shape[1])])
        self.bits, self.table, self.dtype = bits, table, rows.dtype

    def reader(self, most: int) -> Callable[[slice], Tensor]:
        """Return a function that gathers some rows, at most so many, where the last ones were."""
        bits, table, channels = self.bits, self.table, self.bits.shape[1]
        buffer = bits.new_empty(most, table.shape[1] * channels)
        if self.compiled:
            from spcnn_lightning.compiled.gathering import Gatherer

            gather = Gatherer(bits, table, buffer)

        def read(part: slice) -> Tensor:
            block = buffer[: part.stop - part.start]
            if self.compiled:
                gather(part)
            else:
                wanted = table[part].reshape(-1)
                torch.index_select(bits, 0, wanted, out=block.view(-1, channels))
            return block.view(self.dtype)

        return read

    def blocks(self, lane: slice) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of a lane in blocks, each of which is overwritten by the next."""
        step = self.rows_of_a_block(lane)
        read = self.reader(step)
        for part in blocks_of(lane, step):
            yield part, read(part)

    def rows_of_a_block(self, lane: slice) -> int:
        """Return how many rows a block of the lane has, at most."""
        width = self.table.shape[1] * self.bits.shape[1]
        return rows_of_a_block(lane.stop - lane.start, width, self.table.device)


def lanes_of(rows: int, device: torch.device, least: int = 1) -> list[slice]:
    """Return parts of the rows for `in_lanes`, of ``least`` rows each; all in one if too short."""
    count = threads_for(rows, device, least)
    bounds = [rows * number // count for number in range(count + 1)]
    return [slice(*ends) for ends in pairwise(bounds)]


def threads_for(rows: int, device: torch.device, least: int = 1) -> int:
    """Return the number of threads if each gets ``least`` rows and a block, else one.

    Torch then gives its threads to each operation.
    """
    enough = rows >= num_threads() * max(least, LEAST_ROWS)
    return num_threads() if enough and has_lanes(device) else 1


def blocks_of(lane: slice, step: int) -> Iterator[slice]:
    """Yield the parts of a lane, of so many rows each but for the last."""
    for start in range(lane.start, lane.stop, step):
        yield slice(start, min(start + step, lane.stop))


def rows_of_a_block(rows: int, width: int, device: torch.device, threads: int | None = None) -> int:
    """Return how many of the rows, of so many numbers each, are done at once.

    By so many threads, or all that an operation takes here.
    """
    if device.type != "cpu":
        return max(1, min(rows, MAX_BUFFER // width))
    numbers = CACHE_BLOCK * (threads or num_threads())
    return max(1, min(rows, max(LEAST_ROWS, numbers // width)))
