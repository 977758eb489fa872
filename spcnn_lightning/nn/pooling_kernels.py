"""Maximum and mean over windows in which absent sites hold the ground state."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap


def max_of_windows(features: Tensor, ground: Tensor, rulebook: KernelMap) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window, shape (M, C), and the ground state.

    ``features`` has shape (N, C) and ``ground`` (C,). Gradients go to the first maximum.
    """
    rows: Tensor = _MaxOfWindows.apply(features, ground, rulebook)  # type: ignore[no-untyped-call]  # torch's
    return rows, ground


def avg_of_windows(features: Tensor, ground: Tensor, rulebook: KernelMap) -> Tensor:
    """Return the mean of each window over its slots inside the field, shape (M, C)."""
    taps = rulebook.geometry.num_taps
    slots: Tensor | int = taps
    if rulebook.outside is not None:
        slots = (taps - rulebook.outside.sum(1, keepdim=True)).to(features.dtype)
    sums: Tensor = _SumOfWindows.apply(features - ground, rulebook)  # type: ignore[no-untyped-call]  # torch's
    return ground + sums / slots


class _SumOfWindows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rulebook: KernelMap) -> Tensor:
        ctx.rulebook = rulebook
        return _sum_rows(x, rulebook.out_to_in)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum_rows(grad, ctx.rulebook.in_to_out), None


def _sum_rows(rows: Tensor, table: Tensor) -> Tensor:
    padded = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
    out = padded.index_select(0, table[:, 0])
    for tap in range(1, table.shape[1]):
        out += padded.index_select(0, table[:, tap])
    return out


class _MaxOfWindows(torch.autograd.Function):
    """The winning slot of each window and channel is kept as a byte; backward only gathers."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ground: Tensor, rulebook: KernelMap) -> Tensor:
        table, outside = rulebook.out_to_in, rulebook.outside
        taps = table.shape[1]
        small = torch.uint8 if taps < 256 else torch.int32
        # Number of each slot; `taps` where the ground state stands in it.
        slot = torch.arange(taps, device=table.device).where(table < rulebook.num_inputs, taps)
        slot = slot.to(small)
        rows = torch.cat([x, ground[None]])
        if outside is not None:
            rows = torch.cat([rows, torch.full_like(ground[None], -torch.inf)])
            table = table.masked_fill(outside, len(rows) - 1)
        best = rows.index_select(0, table[:, 0])
        winner = slot[:, :1].expand(best.shape)
        for tap in range(1, taps):
            candidate = rows.index_select(0, table[:, tap])
            # Strict: the first of equal values keeps its place.
            winner = torch.where(candidate > best, slot[:, tap, None], winner)
            # Unlike a selection by the comparison, this hands NaN on, as dense pooling does.
            best = torch.maximum(best, candidate, out=best)
        ctx.save_for_backward(winner)
        ctx.rulebook = rulebook
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (winner,) = ctx.saved_tensors
        grad_x = grad_ground = None
        if ctx.needs_input_grad[0]:
            grad_x = _gradient_of_sites(grad, winner, ctx.rulebook)
        if ctx.needs_input_grad[1]:
            grad_ground = torch.where(winner == ctx.rulebook.geometry.num_taps, grad, 0).sum(0)
        return grad_x, grad_ground, None


def _gradient_of_sites(grad: Tensor, winner: Tensor, rulebook: KernelMap) -> Tensor:
    """Give each input row the gradient of the windows that it won."""
    m, table = rulebook.num_outputs, rulebook.in_to_out
    if m == 0:
        return grad.new_zeros(table.shape[0], grad.shape[1])
    if _windows_are_disjoint(rulebook.geometry):
        # A site lies in one window at most; M, where there is none, is the largest entry.
        row, tap = table.min(1)
        return _gradient_if_won(grad, winner, row, tap[:, None], m)
    total = _gradient_if_won(grad, winner, table[:, 0], 0, m)
    for tap_number in range(1, table.shape[1]):
        total += _gradient_if_won(grad, winner, table[:, tap_number], tap_number, m)
    return total


def _gradient_if_won(
    grad: Tensor, winner: Tensor, row: Tensor, tap: Tensor | int, m: int
) -> Tensor:
    reaches = (row < m)[:, None]
    row = row.clamp(max=m - 1)
    won = (winner.index_select(0, row) == tap) & reaches
    return torch.where(won, grad.index_select(0, row), 0)


def _windows_are_disjoint(geometry: ConvGeometry) -> bool:
    return all(
        s > d * (k - 1)
        for k, s, d in zip(geometry.kernel_size, geometry.stride, geometry.dilation, strict=True)
    )
