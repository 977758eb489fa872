"""The built-in backend: pure torch, every device, dtype and dimension, deterministic."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, kernel_map

MAX_BUFFER = 2**26
"""Most entries of the (rows, taps, channels) buffer; a larger one is never built."""


class TorchBackend:
    """Sparse convolution in torch operations alone: the reference and the default.

    One of three ways to the same sum is taken for each call. *Project first*: one matrix product
    to all taps, then a sum of gathered rows; exact work where every input reaches all taps.
    *Gather first*: the windows side by side, then one product; best for few input channels.
    *By tap*: a product for each tap on the pairs alone; best for strided and submanifold maps,
    and bounded in memory.
    """

    name = "torch"
    capabilities = Capabilities(devices=None, dtypes=None)

    def availability(self) -> list[str]:
        """Return an empty list: torch is always there."""
        return []

    def version(self) -> str | None:
        """Return the version of torch."""
        return f"torch {torch.__version__}"

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return an empty list: this backend runs everything."""
        return self.capabilities.reasons_against(request)

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> KernelMap:
        """Return the shared kernel map of core."""
        return kernel_map(active_set, geometry)

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool = False
    ) -> Tensor:
        """Convolve zero-background rows; see `spcnn_lightning.core.backend.Backend.convolve`."""
        rows_in = kernel_map.num_outputs if transposed else kernel_map.num_inputs
        rows_out = kernel_map.num_inputs if transposed else kernel_map.num_outputs
        taps, c_in, c_out = weight.shape
        if kernel_map.num_pairs == 0:
            # Still a function of both, so that gradients are zeros and not missing.
            nothing = features[:0].sum() + weight[:0].sum()
            return features.new_zeros(rows_out, c_out) + nothing
        work = {
            _ProjectFirst: rows_in * taps * (c_in * c_out + GATHER_COST * c_out),
            _GatherFirst: rows_out * taps * (c_in * c_out + GATHER_COST * c_in),
            _ByTap: kernel_map.num_pairs * (c_in * c_out + GATHER_COST * 2 * (c_in + c_out)),
        }
        if rows_in * taps * c_out > MAX_BUFFER:
            del work[_ProjectFirst]
        if rows_out * taps * c_in > MAX_BUFFER:
            del work[_GatherFirst]
        way = min(work, key=work.__getitem__)
        out: Tensor = way.apply(features, weight, kernel_map, transposed)  # type: ignore[no-untyped-call]  # torch's
        return out


GATHER_COST = 16
"""Multiply-adds that take the time of moving one number (measured order of magnitude)."""


def _tables(kernel_map: KernelMap, transposed: bool) -> tuple[Tensor, Tensor]:
    """Return (output row -> input rows) and (input row -> output rows), one column per tap."""
    if transposed:
        return kernel_map.in_to_out, kernel_map.out_to_in
    return kernel_map.out_to_in, kernel_map.in_to_out


def _with_zero_row(rows: Tensor) -> Tensor:
    """Return the rows and one of zeros, which the tables name where a site is absent."""
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])


def sum_of_rows(rows: Tensor, index: Tensor) -> Tensor:
    """Return ``rows[index].sum(1)`` for index (R, K) without building the (R, K, C) tensor."""
    if rows.dtype is torch.float32:
        # One fused kernel, deterministic; in other dtypes it is many times slower.
        return torch.nn.functional.embedding_bag(index, rows, mode="sum")
    out = rows.index_select(0, index[:, 0])
    for tap in range(1, index.shape[1]):
        out += rows.index_select(0, index[:, tap])
    return out


class _ProjectFirst(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kernel_map, ctx.transposed = kernel_map, transposed
        taps, _, c_out = weight.shape
        table, _ = _tables(kernel_map, transposed)
        projected = x.new_empty(x.shape[0] + 1, taps * c_out)
        torch.mm(x, _side_by_side(weight), out=projected[:-1])
        projected[-1] = 0
        index = table * taps + torch.arange(taps, device=table.device)
        return sum_of_rows(projected.view(-1, c_out), index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        taps, c_in, c_out = weight.shape
        _, table = _tables(ctx.kernel_map, ctx.transposed)
        spread = _with_zero_row(grad).index_select(0, table.reshape(-1)).view(-1, taps * c_out)
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            grad_x = spread @ _side_by_side(weight).T
        if ctx.needs_input_grad[1]:
            grad_w = (x.T @ spread).view(c_in, taps, c_out).transpose(0, 1)
        return grad_x, grad_w, None, None


def _side_by_side(weight: Tensor) -> Tensor:
    """Return the weights as (C_in, K * C_out)."""
    return weight.transpose(0, 1).reshape(weight.shape[1], -1)


class _GatherFirst(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        taps, c_in, c_out = weight.shape
        table, _ = _tables(kernel_map, transposed)
        windows = _with_zero_row(x).index_select(0, table.reshape(-1)).view(-1, taps * c_in)
        ctx.save_for_backward(windows, weight)
        ctx.kernel_map, ctx.transposed = kernel_map, transposed
        return windows @ weight.reshape(taps * c_in, c_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        windows, weight = ctx.saved_tensors
        taps, c_in, c_out = weight.shape
        grad_x = grad_w = None
        if ctx.needs_input_grad[0]:
            _, table = _tables(ctx.kernel_map, ctx.transposed)
            spread = grad @ weight.reshape(taps * c_in, c_out).T
            index = table * taps + torch.arange(taps, device=table.device)
            rows = torch.cat([spread, spread.new_zeros(1, taps * c_in)]).view(-1, c_in)
            grad_x = sum_of_rows(rows, index)
        if ctx.needs_input_grad[1]:
            grad_w = (windows.T @ grad).view(taps, c_in, c_out)
        return grad_x, grad_w, None, None


class _ByTap(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        rows_in, rows_out, counts = kernel_map.pairs
        rows_out_count = kernel_map.num_inputs if transposed else kernel_map.num_outputs
        if transposed:
            rows_in, rows_out = rows_out, rows_in
        ctx.pairs = (torch.split(rows_in, counts), torch.split(rows_out, counts))
        out = x.new_zeros(rows_out_count, weight.shape[2])
        for source, target, w in zip(*ctx.pairs, weight, strict=True):
            out.index_add_(0, target, x.index_select(0, source) @ w)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        grad_w = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        for tap, (source, target) in enumerate(zip(*ctx.pairs, strict=True)):
            gathered = grad.index_select(0, target)
            if grad_x is not None:
                grad_x.index_add_(0, source, gathered @ weight[tap].T)
            if grad_w is not None:
                grad_w[tap] = x.index_select(0, source).T @ gathered
        return grad_x, grad_w, None, None
