"""What the ways of the torch backend share: rows gathered, multiplied and added in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.compiled.threads import has_lanes, in_lanes, num_threads

MAX_BUFFER = 2**26
"""Most numbers in a buffer; a larger one is never built."""
CACHE_BLOCK = 2**19
"""Numbers in a block for each thread on a CPU, so that it stays in the cache: 2 MiB in float32."""
LEAST_ROWS = 256
"""Rows of a block on a CPU; a matrix product of fewer is slow."""


def side_by_side(weight: Tensor) -> Tensor:
    """Return the weights as (C_in, K * C_out)."""
    return weight.transpose(0, 1).reshape(weight.shape[1], -1)


def gradients_over_inputs(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    table: Tensor,
    wants_x: bool,
    wants_weight: bool,
    ground: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return both gradients from one gathering: of the outputs that an input reaches.

    Those of a convolution of ``x - ground``, if a ground state is given.
    """
    taps, c_in, c_out = weight.shape
    grad_x = torch.empty_like(x) if wants_x else None
    spread, matrix = Windows(grad, table), side_by_side(weight).T

    def of_lane(lane: slice) -> Sums:
        sums, difference = Sums(x.dtype), difference_to(ground, spread.rows_of_a_block(lane))
        for part, block in spread.blocks(lane):
            if grad_x is not None:
                torch.mm(block, matrix, out=grad_x[part])
            if wants_weight:
                sums.add(difference(x[part]), block)
        return sums

    found = in_lanes(of_lane, lanes_of(len(x), x.device, c_in if wants_weight else 1))
    grad_w = total(found).view(c_in, taps, c_out).transpose(0, 1) if wants_weight else None
    return grad_x, grad_w


def project(
    rows: Tensor,
    matrix: Tensor,
    sources: Tensor,
    targets: Tensor,
    ground: Tensor | None = None,
    begin: Tensor | None = None,
) -> Tensor:
    """Return for each window the sum of ``rows @ matrix`` over its rows, each at its tap.

    Args:
        rows: Shape (N, C).
        matrix: Shape (C, K * C_out).
        sources: Shape (M, K): the row that a window has at a tap, or N.
        targets: Shape (N, K): the window that has a row at a tap, or M.
        ground: Shape (C,): taken from each row before the product.
        begin: Shape (C_out,): what each sum begins with; zeros if not given.
    """
    taps = sources.shape[1]
    channels = matrix.shape[1] // taps
    begin = rows.new_zeros(channels) if begin is None else begin
    wide = rows.new_empty(0, dtype=dtype_of_sums(rows))
    if compiled_for(targets.numel() * channels, wide):
        from spcnn_lightning.compiled import adding

        if adding.in_order(sources, len(rows)):
            out = begin.to(wide.dtype).repeat(len(sources), 1)
            lanes = adding.lanes(targets, len(sources), threads_for(len(rows), rows.device))
            in_lanes(partial(_project_and_add, rows, matrix, targets, ground, out), lanes)
            return out.to(rows.dtype)
    products = rows.new_empty(len(rows) * taps + 2, channels)
    whole = products[:-2].view(len(rows), -1)
    step = rows_of_a_block(len(rows), matrix.shape[1], rows.device)
    difference = difference_to(ground, step)
    for part in blocks_of(slice(0, len(rows)), step):
        torch.mm(difference(rows[part]), matrix, out=whole[part])
    products[-2], products[-1] = 0, begin
    return _sum_of_rows(products, _places(sources, len(rows)))


def _project_and_add(
    rows: Tensor,
    matrix: Tensor,
    targets: Tensor,
    ground: Tensor | None,
    out: Tensor,
    lane: slice,
) -> None:
    """Add the products of the rows of a lane to the windows that have them."""
    from spcnn_lightning.compiled.adding import Adder

    step = rows_of_a_block(lane.stop - lane.start, matrix.shape[1], rows.device)
    difference, block = difference_to(ground, step), rows.new_empty(step, matrix.shape[1])
    wide = block.float() if rows.dtype is torch.float16 else block
    add = Adder(wide, targets, out)
    for part in blocks_of(lane, step):
        torch.mm(difference(rows[part]), matrix, out=block[: part.stop - part.start])
        if wide is not block:
            wide.copy_(block)
        add(part)


def _places(sources: Tensor, rows: int) -> Tensor:
    """Return where the terms of each window lie among ``rows`` times K products, shape (M, 1 + K).

    Zeros lie behind the products, and behind them what each sum begins with, its first term.
    """
    taps = sources.shape[1]
    places = sources.new_full((len(sources), 1 + taps), rows * taps + 1)
    terms = sources * taps + torch.arange(taps, device=sources.device)
    places[:, 1:] = terms.clamp_(max=rows * taps)
    return places


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


def _sum_of_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return ``rows[index].sum(1)`` for index (R, K) without building the (R, K, C) tensor."""
    if rows.dtype is torch.float32:
        # One fused kernel, deterministic; in other dtypes it is many times slower.
        return torch.nn.functional.embedding_bag(index, rows, mode="sum")
    out = rows.index_select(0, index[:, 0]).to(dtype_of_sums(rows))
    for tap in range(1, index.shape[1]):
        out += rows.index_select(0, index[:, tap])
    return out.to(rows.dtype)
