"""The arithmetic of spconv and spconv-triton: their forward and backward calls, as one Function."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spcnn_lightning.adapters.spconv_rulebook import NATIVE, ImplicitGemm, Library, SpconvMap

_log = logging.getLogger(__name__)


class Call(NamedTuple):
    """One convolution, but for its tensors.

    Attributes:
        library: What computes.
        algorithm: One of spconv_rulebook's, as far as it has a kernel.
        rulebook: The kernel map.
        inverse: From output sites to input sites.
        without_kernel: (dtype, C_in, C_out) for which implicit GEMM was found to have no kernel;
            Native runs them.
    """

    library: Library
    algorithm: str
    rulebook: SpconvMap
    inverse: bool
    without_kernel: set[tuple[torch.dtype, int, int]]

    @property
    def num_rows(self) -> int:
        """Rows of the result."""
        return self.rulebook.num_inputs if self.inverse else self.rulebook.num_outputs


class _Convolve(torch.autograd.Function):
    """Rows (N, C_in) and filters (C_out, *kernel_size, C_in) to rows (M, C_out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, call: Call) -> Tensor:
        """Return the sums over all pairs."""
        x, filters = x.contiguous(), filters.contiguous()
        ctx.save_for_backward(x, filters)
        ctx.call, ctx.masks = call, None
        if not (x.numel() and filters.numel() and call.num_rows):
            return x.new_zeros(call.num_rows, filters.shape[0])
        with calm(x.device):
            out, ctx.masks = run_forward(call, x, filters)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of rows and filters; the libraries compute both or none."""
        x, filters = ctx.saved_tensors
        if not (x.numel() and filters.numel() and len(grad)):
            return torch.zeros_like(x), torch.zeros_like(filters), None
        with calm(x.device):
            grad_x, grad_filters = run_backward(ctx.call, x, filters, grad.contiguous(), ctx.masks)
        return grad_x, grad_filters.view_as(filters), None


convolve_rows: Callable[[Tensor, Tensor, Call], Tensor] = _Convolve.apply
"""Rows (N, C_in), filters (C_out, *kernel_size, C_in) and a call give rows (M, C_out)."""


def run_forward(call: Call, x: Tensor, filters: Tensor) -> tuple[Tensor, Any]:
    """Return the result, and what implicit GEMM's backward wants of its forward."""
    submanifold = call.rulebook.is_submanifold
    if implicit := _tables(call, x, filters):
        with _kernel_or_none(call, x, filters):
            # Always as in training: the masks cost little, and one way is easier to trust.
            out, *masks = call.library.ops.implicit_gemm(
                x,
                filters,
                implicit.forward_table,
                implicit.forward_masks,
                implicit.forward_order,
                call.num_rows,
                implicit.splits,
                True,
                submanifold,
            )
            return out, masks
    pairs, counts = call.rulebook.rulebook(call.library, NATIVE)
    out = call.library.ops.indice_conv(
        x, filters, pairs, counts, call.num_rows, call.inverse, submanifold
    )
    return out, None


def run_backward(
    call: Call, x: Tensor, filters: Tensor, grad: Tensor, masks: Any
) -> tuple[Tensor, Tensor]:
    """Return the gradients of rows and filters."""
    submanifold = call.rulebook.is_submanifold
    implicit = _tables(call, x, filters) if masks is not None else None
    if implicit:
        with _kernel_or_none(call, x, filters):
            grads: tuple[Tensor, Tensor] = call.library.ops.implicit_gemm_backward(
                x,
                filters,
                grad,
                implicit.forward_table,
                implicit.backward_table,
                implicit.forward_masks,
                implicit.backward_masks,
                implicit.forward_order,
                implicit.backward_order,
                *_backward_masks(masks, implicit),
                submanifold,
            )
            return grads
    pairs, counts = call.rulebook.rulebook(call.library, NATIVE)
    grad_x, grad_filters = call.library.ops.indice_conv_backward(
        x, filters, grad, pairs, counts, call.inverse, submanifold
    )
    return grad_x, grad_filters


def _backward_masks(masks: Any, implicit: ImplicitGemm) -> tuple[Any, Any, int]:
    """Return masks of the output tiles, splits and tile height, in the order of the library."""
    tiles, height = masks
    return tiles, implicit.splits, height


def _tables(call: Call, x: Tensor, filters: Tensor) -> ImplicitGemm | None:
    """Return implicit GEMM's rulebook in the direction of the call, if implicit GEMM runs it."""
    if call.algorithm == NATIVE or _kind(x, filters) in call.without_kernel:
        return None
    tables: ImplicitGemm = call.rulebook.rulebook(call.library, call.algorithm)
    return tables.reversed() if call.inverse else tables


@contextlib.contextmanager
def _kernel_or_none(call: Call, x: Tensor, filters: Tensor) -> Iterator[None]:
    """Go on to what follows, which is Native, if the library has no kernel for these channels."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if "suitable algorithm" not in str(error):
            raise
        call.without_kernel.add(_kind(x, filters))
        _log.info(
            "no implicit GEMM for %s with %d and %d channels: Native computes these",
            *_kind(x, filters),
        )


def _kind(x: Tensor, filters: Tensor) -> tuple[torch.dtype, int, int]:
    return x.dtype, x.shape[1], filters.shape[0]


def filled_up(x: Tensor, weight: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Return rows (N, C_in) and weights (K, C_in, C_out), channels filled up with zeros."""
    missing_in, missing_out = -weight.shape[1] % multiple, -weight.shape[2] % multiple
    if not missing_in and not missing_out:
        return x, weight
    return F.pad(x, (0, missing_in)), F.pad(weight, (0, missing_out, 0, missing_in))


@contextlib.contextmanager
def calm(device: torch.device) -> Iterator[None]:
    """Make ``device`` the current one, which the libraries assume, and keep autocast out.

    The rows have autocast's dtype already; within, single products would be cast once more.
    """
    with contextlib.ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        stack.enter_context(torch.autocast(device.type, enabled=False))
        yield
