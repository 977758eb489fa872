"""The way of the torch backend that projects rows to all taps, and what goes back by it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from spcnn_lightning.adapters.torch_rows import (
    Sums,
    Windows,
    blocks_of,
    difference_to,
    dtype_of_sums,
    lanes_of,
    rows_of_a_block,
    threads_for,
    total,
)
from spcnn_lightning.compiled import compiled_for
from spcnn_lightning.compiled.threads import in_lanes


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


def _sum_of_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return ``rows[index].sum(1)`` for index (R, K) without building the (R, K, C) tensor."""
    if rows.dtype is torch.float32:
        # One fused kernel, deterministic; in other dtypes it is many times slower.
        return torch.nn.functional.embedding_bag(index, rows, mode="sum")
    out = rows.index_select(0, index[:, 0]).to(dtype_of_sums(rows))
    for tap in range(1, index.shape[1]):
        out += rows.index_select(0, index[:, tap])
    return out.to(rows.dtype)
