"""Sums over the processes of a distributed run that gradients go through."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def sum_over_processes(values: Tensor) -> Tensor:
    """Return the sum of what all processes pass; if there is one process only, ``values``.

    All must call it, in the same order and with the same shape. The gradient of each process's
    ``values`` is the sum of the gradients that all processes give for the result, as if the losses
    of all were one. Works with every backend of torch.distributed that can add up, gloo on the CPU
    included.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    # Not torch.distributed.nn.functional.all_reduce, which is deprecated.
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return sum_over_processes(gradient)
