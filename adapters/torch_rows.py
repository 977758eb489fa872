"""What the ways of the torch backend share: rows gathered, multiplied and added in blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from spcnn_lightning.compiled import compiled_for

MAX_BUFFER = 2**26
"""Most numbers in a buffer; a larger one is never built."""
CACHE_BLOCK = 2**18
"""Numbers in a block for each thread on a CPU, so that it stays in the cache: 1 MiB in float32."""
LEAST_ROWS = 256
"""Rows of a block on a CPU; a matrix product of fewer is slow."""


def _places(table: Tensor, rows: int) -> Tensor:
    """Return where row n of tap k lies among ``rows`` times K rows; behind them all for none."""
    taps = table.shape[1]
    places = table * taps + torch.arange(taps, device=table.device)
    return places.clamp_(max=rows * taps)


def side_by_side(weight: Tensor) -> Tensor:
    """Return the weights as (C_in, K * C_out)."""
    return weight.transpose(0, 1).reshape(weight.shape[1], -1)


def gradients_over_inputs(
    grad: Tensor, x: Tensor, weight: Tensor, table: Tensor, wants_x: bool, wants_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return both gradients from one gathering: of the outputs that an input reaches."""
    taps, c_in, c_out = weight.shape
    grad_x = torch.empty_like(x) if wants_x else None
    sums, matrix = Sums(x.dtype), side_by_side(weight).T
    for part, spread in gathered(grad, table):
        if grad_x is not None:
            torch.mm(spread, matrix, out=grad_x[part])
        if wants_weight:
            sums.add(x[part], spread)
    grad_w = sums.total.view(c_in, taps, c_out).transpose(0, 1) if wants_weight else None
    return grad_x, grad_w


def project(rows: Tensor, matrix: Tensor, sources: Tensor, targets: Tensor) -> Tensor:
    """Return for each window the sum of ``rows @ matrix`` over its rows, each at its tap.

    Args:
        rows: Shape (N, C).
        matrix: Shape (C, K * C_out).
        sources: Shape (M, K): the row that a window has at a tap, or N.
        targets: Shape (N, K): the window that has a row at a tap, or M.
    """
    taps = sources.shape[1]
    channels = matrix.shape[1] // taps
    step = rows_of_a_block(len(rows), matrix.shape[1], rows.device)
    parts = [slice(start, min(start + step, len(rows))) for start in range(0, len(rows), step)]
    wide = rows.new_empty(0, dtype=dtype_of_sums(rows))
    if compiled_for(targets.numel() * channels, wide):
        from spcnn_lightning.compiled import adding

        if adding.in_order(sources, len(rows)):
            block = rows.new_empty(step, matrix.shape[1])
            out, wide = wide.new_zeros(len(sources), channels), block
            if rows.dtype is torch.float16:
                wide = block.float()
            add = adding.Adder(wide, targets, out)
            for part in parts:
                torch.mm(rows[part], matrix, out=block[: part.stop - part.start])
                if wide is not block:
                    wide.copy_(block)
                add(part)
            return out.to(rows.dtype)
    projected = rows.new_empty(len(rows) * taps + 1, channels)
    whole = projected[:-1].view(len(rows), -1)
    for part in parts:
        torch.mm(rows[part], matrix, out=whole[part])
    projected[-1] = 0
    return _sum_of_rows(projected, _places(sources, len(rows)))


class Sums:
    """Adds up products of blocks, in float32 where the numbers are shorter."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.sums: Tensor | None = None

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add ``left.T @ right``."""
        if self.sums is None:
            self.sums = (left.T @ right).to(dtype_of_sums(left))
        elif self.dtype.itemsize >= 4:
            self.sums.addmm_(left.T, right)
        else:
            self.sums += left.T @ right

    @property
    def total(self) -> Tensor:
        """The sum, in the dtype of the products; there must be one product at least."""
        assert self.sums is not None
        return self.sums.to(self.dtype)


def add_rows(out: Tensor, targets: Tensor, rows: Tensor) -> None:
    """Add rows to those of ``out`` that ``targets`` names, no two the same."""
    rows = rows.to(out.dtype)
    if compiled_for(rows.numel(), out, rows):
        from spcnn_lightning.compiled.adding import Adder

        Adder(rows, targets[:, None], out)(slice(0, len(rows)))
    else:
        out.index_add_(0, targets, rows)


def dtype_of_sums(rows: Tensor) -> torch.dtype:
    """Return float32 for shorter numbers, which many terms would round again and again."""
    return rows.dtype if rows.dtype.itemsize >= 4 else torch.float32


def gathered(
    rows: Tensor, table: Tensor, step: int | None = None, complete: bool = False
) -> Iterator[tuple[slice, Tensor]]:
    """Yield blocks of ``rows[table]``, shape (step, K * C), with zeros where there is no row.

    A block is overwritten by the next. A table without missing rows is ``complete``.
    """
    taps, channels = table.shape[1], rows.shape[1]
    bits = rows.contiguous()
    if rows.element_size() == 2:
        bits = bits.view(torch.int16)  # gathering moves bits, whatever they mean
    compiled = compiled_for(table.numel() * channels, bits)
    if not compiled and not complete:
        bits = torch.cat([bits, bits.new_zeros(1, channels)])
    step = step or rows_of_a_block(len(table), taps * channels, rows.device)
    buffer = bits.new_empty(step, taps * channels)
    if compiled:
        from spcnn_lightning.compiled.gathering import Gatherer

        gather = Gatherer(bits, table, buffer)
    for start in range(0, len(table), step):
        part = slice(start, min(start + step, len(table)))
        block = buffer[: part.stop - start]
        if compiled:
            gather(part)
        else:
            torch.index_select(bits, 0, table[part].reshape(-1), out=block.view(-1, channels))
        yield part, block.view(rows.dtype)


def rows_of_a_block(rows: int, width: int, device: torch.device) -> int:
    """Return how many of the rows, of so many numbers each, are done at once."""
    if device.type != "cpu":
        return max(1, min(rows, MAX_BUFFER // width))
    return max(1, min(rows, max(LEAST_ROWS, CACHE_BLOCK * torch.get_num_threads() // width)))


def _sum_of_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return ``rows[index].sum(1)`` for index (R, K) without building the (R, K, C) tensor."""
    if rows.dtype is torch.float32:
        # One fused kernel, deterministic; in other dtypes it is many times slower.
        return torch.nn.functional.embedding_bag(index, rows, mode="sum")
    out = rows.index_select(0, index[:, 0]).to(dtype_of_sums(rows))
    for tap in range(1, index.shape[1]):
        out += rows.index_select(0, index[:, tap])
    return out.to(rows.dtype)
