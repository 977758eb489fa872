"""Tensors as the compiled loops take them: NumPy arrays, bfloat16 among them as its bits."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba.extending import overload
from torch import Tensor


def array_of(tensor: Tensor) -> Any:
    """Return the tensor as an array; bfloat16, which NumPy does not know, as uint16."""
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def number(value: Any) -> Any:
    """Return, in a loop, what an entry of such an array stands for: of bits a float32."""
    raise NotImplementedError("compiled loops alone call this")


@overload(number, inline="always")
def _number(value):  # type: ignore[no-untyped-def]
    if value is numba.types.uint16:  # the upper half of a float32
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value
