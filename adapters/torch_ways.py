"""Three ways to the sum of a sparse convolution, in blocks of bounded size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.adapters import torch_rows
from spcnn_lightning.adapters.torch_project import gradients_over_inputs, project, side_by_side
from spcnn_lightning.adapters.torch_rows import (
    Sums,
    Windows,
    lanes_of,
    total,
)
from spcnn_lightning.adapters.torch_taps import gradients_over_taps, sum_over_taps
from spcnn_lightning.compiled.threads import in_lanes
from spcnn_lightning.core.kernel_map import KernelMap


class _OverWindows(torch.autograd.Function):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight."""
        (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad[:2]
        found = gradients(grad, x, weight, ctx.kernel_map, ctx.transposed, *wanted)
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
        _keep(ctx, x, weight, kernel_map, transposed)
        return sum_over_taps(x, weight, kernel_map, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and weight."""
        (x, weight), wanted = ctx.saved_tensors, ctx.needs_input_grad[:2]
        found = gradients_over_taps(grad, x, weight, ctx.kernel_map, ctx.transposed, *wanted)
        return *found, None, None


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
    kernel_map: KernelMap,
    transposed: bool,
    wants_x: bool,
    wants_weight: bool,
    ground: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of x and weight, over the inputs' or the outputs' windows.

    With a ground state they are those of a convolution of ``x - ground``.
    """
    to_inputs, to_outputs = _tables(kernel_map, transposed)
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
