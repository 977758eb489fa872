"""Three ways to the sum of a sparse convolution, in blocks of bounded size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.adapters import torch_rows
from spcnn_lightning.adapters.torch_rows import (
    Sums,
    Windows,
    add_rows,
    dtype_of_sums,
    gradients_over_inputs,
    lanes_of,
    project,
    rows_of_a_block,
    side_by_side,
    total,
)
from spcnn_lightning.compiled.threads import in_lanes
from spcnn_lightning.core.kernel_map import KernelMap


class _OverWindows(torch.autograd.Function):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight."""
        tables = _tables(ctx.kernel_map, ctx.transposed)
        (x, weight), (wants_x, wants_weight) = ctx.saved_tensors, ctx.needs_input_grad[:2]
        found = gradients(grad, x, weight, tables, wants_x, wants_weight)
        return *found, None, None


class ProjectFirst(_OverWindows):
    """One matrix product to all taps, then a sum of gathered rows."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        """Return the sums, one row for each output."""
        _keep(ctx, x, weight, kernel_map, transposed)
        return project(x, side_by_side(weight), *_tables(kernel_map, transposed))


class GatherFirst(_OverWindows):
    """The rows of a window side by side, then one matrix product."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        """Return the sums, one row for each output."""
        _keep(ctx, x, weight, kernel_map, transposed)
        taps, c_in, c_out = weight.shape
        table, _ = _tables(kernel_map, transposed)
        matrix, out = weight.reshape(taps * c_in, c_out), x.new_empty(len(table), c_out)
        windows = Windows(x, table)

        def of_lane(lane: slice) -> None:
            for part, block in windows.blocks(lane):
                torch.mm(block, matrix, out=out[part])

        in_lanes(of_lane, lanes_of(len(table), x.device))
        return out


class ByTap(torch.autograd.Function):
    """A matrix product for each tap, on the pairs alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        """Return the sums, one row for each output."""
        ctx.save_for_backward(x, weight)
        rows_in, rows_out, counts = kernel_map.pairs
        rows_out_count = kernel_map.num_inputs if transposed else kernel_map.num_outputs
        if transposed:
            rows_in, rows_out = rows_out, rows_in
        ctx.pairs = (torch.split(rows_in, counts), torch.split(rows_out, counts))
        out = x.new_zeros(rows_out_count, weight.shape[2], dtype=dtype_of_sums(x))
        for source, target, w in zip(*ctx.pairs, weight, strict=True):
            step = rows_of_a_block(len(source), max(w.shape), x.device)
            windows = Windows(x, source[:, None], complete=True)
            for part, rows in windows.blocks(slice(0, len(source)), step):
                add_rows(out, target[part], rows @ w)
        return out.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight."""
        x, weight = ctx.saved_tensors
        wide = dtype_of_sums(x)
        grad_x = torch.zeros_like(x, dtype=wide) if ctx.needs_input_grad[0] else None
        grad_w = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for tap, (source, target) in enumerate(zip(*ctx.pairs, strict=True)):
            step = rows_of_a_block(len(source), max(weight.shape[1:]), x.device)
            every = slice(0, len(source))
            inputs = Windows(x, source[:, None], complete=True).blocks(every, step)
            sums = Sums(x.dtype)
            windows = Windows(grad, target[:, None], complete=True)
            for part, rows in windows.blocks(every, step):
                if grad_x is not None:
                    add_rows(grad_x, source[part], rows @ weight[tap].T)
                if grad_w is not None:
                    sums.add(next(inputs)[1], rows)
            if grad_w is not None and len(source):
                grad_w[tap] = total([sums])
        return None if grad_x is None else grad_x.to(x.dtype), grad_w, None, None


def _keep(ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool) -> None:
    ctx.save_for_backward(x, weight)
    ctx.kernel_map, ctx.transposed = kernel_map, transposed


def _tables(kernel_map: KernelMap, transposed: bool) -> tuple[Tensor, Tensor]:
    """Return (output row -> input rows) and (input row -> output rows), one column per tap."""
    if transposed:
        return kernel_map.in_to_out, kernel_map.out_to_in
    return kernel_map.out_to_in, kernel_map.in_to_out


def gradients(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    tables: tuple[Tensor, Tensor],
    wants_x: bool,
    wants_weight: bool,
    ground: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of x and weight, over the inputs' or the outputs' windows.

    ``tables`` are (output row -> input rows) and (input row -> output rows). With a ground state
    they are those of a convolution of ``x - ground``.
    """
    to_inputs, to_outputs = tables
    taps, c_in, c_out = weight.shape
    numbers = len(to_inputs) * taps * c_in
    fewer = len(to_inputs) < len(to_outputs) if wants_x else numbers < to_outputs.numel() * c_out
    if not fewer or (wants_x and numbers > torch_rows.MAX_BUFFER):
        operands = grad, x, weight, to_outputs, wants_x, wants_weight, ground
        return gradients_over_inputs(*operands)
    grad_x = grad_w = None
    if wants_x:
        grad_x = project(grad, weight.reshape(-1, c_out).T, to_outputs, to_inputs)
    if wants_weight:
        windows = Windows(x if ground is None else x - ground, to_inputs)

        def of_lane(lane: slice) -> Sums:
            sums = Sums(x.dtype)
            for part, block in windows.blocks(lane):
                sums.add(block, grad[part])
            return sums

        lanes = lanes_of(len(to_inputs), x.device, least=c_out)
        grad_w = total(in_lanes(of_lane, lanes)).view(weight.shape)
    return grad_x, grad_w
