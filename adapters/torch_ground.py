"""Convolutions that see the ground state itself, and make the new one as they go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.adapters.torch_project import project, side_by_side
from spcnn_lightning.adapters.torch_rows import Windows, lanes_of
from spcnn_lightning.adapters.torch_taps import gradients_over_taps, sum_over_taps
from spcnn_lightning.adapters.torch_ways import gradients
from spcnn_lightning.compiled.threads import in_lanes
from spcnn_lightning.core.kernel_map import KernelMap


class GroundWay(NamedTuple):
    """A way to a convolution among sites that hold the ground state.

    Attributes:
        forward: From (x, ground, weight, bias, kernel_map) to the rows and the new ground state.
        gradients: Of ``x - ground`` and of the weights.
    """

    forward: Callable[..., tuple[Tensor, Tensor]]
    gradients: Callable[..., tuple[Tensor | None, Tensor | None]]


class WithGround(torch.autograd.Function):
    """Convolves (x, ground, weight, bias, kernel_map) in a `GroundWay`."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ground: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kernel_map: KernelMap,
        way: GroundWay,
    ) -> tuple[Tensor, Tensor]:
        """Return the rows, shape (M, C_out), and the new ground state, (C_out,)."""
        ctx.save_for_backward(x, ground, weight)
        ctx.kernel_map, ctx.gradients = kernel_map, way.gradients
        return way.forward(x, ground, weight, bias, kernel_map)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, of_ground: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, ground, weight and bias."""
        x, ground, weight = ctx.saved_tensors
        wants_x, wants_ground, wants_weight, wants_bias = ctx.needs_input_grad[:4]
        # Sites in terms of their difference to the ground state, then what all taps see of it.
        grad_x = grad_w = grad_ground = None
        if wants_x or wants_ground or wants_weight:
            wanted = wants_x or wants_ground, wants_weight
            grad_x, grad_w = ctx.gradients(grad, x, weight, ctx.kernel_map, False, *wanted, ground)
        total = grad.sum(0) + of_ground
        if grad_w is not None:
            grad_w = grad_w + torch.outer(ground, total)
        if wants_ground and grad_x is not None:
            grad_ground = (weight @ total).sum(0) - grad_x.sum(0)
        grad_bias = total if wants_bias else None
        return grad_x if wants_x else None, grad_ground, grad_w, grad_bias, None, None


def _project(
    x: Tensor, ground: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: KernelMap
) -> tuple[Tensor, Tensor]:
    new_ground = ground_of(ground, weight, bias)
    tables = kernel_map.out_to_in, kernel_map.in_to_out
    return project(x, side_by_side(weight), *tables, ground, new_ground), new_ground


def _by_tap(
    x: Tensor, ground: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: KernelMap
) -> tuple[Tensor, Tensor]:
    new_ground = ground_of(ground, weight, bias)
    return sum_over_taps(x, weight, kernel_map, False, ground, new_ground), new_ground


def _gather(
    x: Tensor, ground: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: KernelMap
) -> tuple[Tensor, Tensor]:
    taps, c_in, c_out = weight.shape
    matrix, table = weight.reshape(taps * c_in, c_out), kernel_map.windows
    rows, out = torch.cat([x, ground[None]]), x.new_empty(len(table), c_out)
    windows = Windows(rows, table, complete=True)

    def of_lane(lane: slice) -> None:
        for part, block in windows.blocks(lane):
            if bias is None:
                torch.mm(block, matrix, out=out[part])
            else:
                torch.addmm(bias, block, matrix, out=out[part])

    in_lanes(of_lane, lanes_of(len(table), x.device))
    new_ground = out[-1].clone()
    return out.resize_(len(out) - 1, c_out), new_ground  # a view could not be changed in place


PROJECT = GroundWay(_project, gradients)
"""One product of all differences to the ground state, to all taps; sums begin with the new one."""
BY_TAP = GroundWay(_by_tap, gradients_over_taps)
"""A product of the differences for each tap, on the pairs alone; sums begin with the new one."""
GATHER = GroundWay(_gather, gradients)
"""Windows side by side in which absent sites are the ground state, then one product.

One window more sees nothing but ground state, and its product is the new one: weights are read
once, and nothing is subtracted before or added behind.
"""


def ground_of(ground: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the ground state that a convolution makes of one, shape (C_out,)."""
    new_ground = ground @ weight.sum(0)
    return new_ground if bias is None else new_ground + bias
