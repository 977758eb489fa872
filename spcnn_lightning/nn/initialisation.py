"""Start values of the weights: the paper's, and He's."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Initialisation = Literal["paper", "he"]


def initialise(
    weight: Tensor,
    init: Initialisation,
    *,
    stride: int = 1,
    kernel_size: int = 1,
    pool_size: int = 1,
    slope: float = 0.0,
) -> None:
    """Fill a weight of shape (K, C_in, C_out) or (C_in, C_out) in place.

    Args:
        weight: The tensor to fill.
        init: ``"paper"``: uniform in (-r, r), r = sqrt(6 / (fan_in + alpha * C_out)) with
            alpha = (kernel_size / stride / pool_size)^D in D = 2 dimensions. ``"he"``: normal with
            variance 2 / ((1 + slope^2) * fan_in).
        stride: Of the layer, in sites.
        kernel_size: Width of the window, in sites.
        pool_size: Width of the pooling that follows; 1 if none does.
        slope: Negative slope of the activation that follows; 1 for none.

    Raises:
        ValueError: If ``init`` is neither name.

    Source:
        paper: the programs of B. Graham; He et al., 2015, arXiv:1502.01852.
    """
    c_out = weight.shape[-1]
    fan_in = weight.numel() // c_out
    with torch.no_grad():
        if init == "paper":
            alpha = (kernel_size / stride / pool_size) ** 2
            bound = math.sqrt(6 / (fan_in + alpha * c_out))
            weight.uniform_(-bound, bound)
        elif init == "he":
            weight.normal_(0, math.sqrt(2 / ((1 + slope**2) * fan_in)))
        else:
            raise ValueError(f"init is {init!r}, expected 'paper' or 'he'")
