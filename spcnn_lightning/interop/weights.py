"""Weights of other sparse libraries in our layout, and back.

Ours is (K, C_in, C_out): the K taps in row-major order of the window (last axis fastest), and
cross-correlation, as in torch. None of the others flips the kernel either, so that each function
only reorders numbers, into a copy; gradients pass through. A bias is one vector everywhere:
MinkowskiEngine keeps it as (1, C_out), the others as (C_out,).

What a tap stands for is up to the layer: libraries place even submanifold kernels differently.
TorchSparse and MinkowskiEngine put tap 0 on the site, SparseConvNet tap k // 2, our
`SubmanifoldConv` tap (k - 1) // 2; for other places give `SparseConv` a geometry with that padding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from spcnn_lightning.core.geometry import PerAxis, per_axis

SpconvLayout = Literal["KRSC", "RSKC", "RSCK"]
"""spconv >= 2.2: KRSC. 2.0 and 2.1: KRSC with implicit GEMM, RSKC with Native. 1.x: RSCK."""


def weight_from_spconv(
    weight: Tensor, stride: PerAxis = 1, layout: SpconvLayout = "KRSC"
) -> Tensor:
    """Return a weight of spconv in our layout.

    Args:
        weight: KRSC: (C_out, *kernel_size, C_in), what spconv 2.2 and later save. RSKC:
            (*kernel_size, C_out, C_in). RSCK: (*kernel_size, C_in, C_out). R and S stand for the
            axes of the window, K for C_out and C for C_in, in any number of dimensions.
        stride: Of its layer; 1 if it is submanifold. With stride 1 and a kernel of one site,
            spconv reads the numbers as (C_in, C_out) whatever the shape says; so does this.
        layout: Nothing in the file tells it.

    Returns:
        Shape (K, C_in, C_out).

    Source:
        Values compared with spconv-cu120 2.3.6; the older layouts by their documentation.
    """
    c_out, kernel_size, c_in = _read_spconv_shape(weight.shape, layout)
    if _is_pointwise(kernel_size, stride):
        return _copied(weight.reshape(1, c_in, c_out))
    if layout == "KRSC":
        weight = weight.movedim(0, -1)
    elif layout == "RSKC":
        weight = weight.transpose(-1, -2)
    return _copied(weight.reshape(-1, c_in, c_out))


def weight_to_spconv(
    weight: Tensor,
    kernel_size: Sequence[int],
    stride: PerAxis = 1,
    layout: SpconvLayout = "KRSC",
) -> Tensor:
    """Return our weight in a layout of spconv; the inverse of `weight_from_spconv`."""
    c_in, c_out = _channels(weight, kernel_size)
    shapes = {
        "KRSC": (c_out, *kernel_size, c_in),
        "RSKC": (*kernel_size, c_out, c_in),
        "RSCK": (*kernel_size, c_in, c_out),
    }
    if layout not in shapes:
        raise ValueError(f"layout is {layout!r}, expected one of {', '.join(shapes)}")
    if _is_pointwise(kernel_size, stride):
        return _copied(weight.reshape(shapes[layout]))
    window = weight.reshape(*kernel_size, c_in, c_out)
    if layout == "KRSC":
        window = window.movedim(-1, 0)
    elif layout == "RSKC":
        window = window.transpose(-1, -2)
    return _copied(window)


def weight_from_torchsparse(weight: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return a weight of TorchSparse 2.1 in our layout.

    Args:
        weight: ``kernel`` of its ``nn.Conv3d``: (K, C_in, C_out), or (C_in, C_out) for a kernel
            of one site. Where K is odd the first axis of the window is the fastest, where K is
            even the last.
        kernel_size: One integer per axis; singleton axes of the library may be left out.

    Source:
        ``get_kernel_offsets`` of TorchSparse 2.1.0; its own kernel maps follow the same order.
    """
    if math.prod(kernel_size) % 2:
        return weight_from_minkowski(weight, kernel_size)
    _channels(weight, kernel_size)
    return _copied(weight)


def weight_to_torchsparse(
    weight: Tensor, kernel_size: Sequence[int], stride: PerAxis = 1
) -> Tensor:
    """Return our weight in TorchSparse's layout; two axes for one site at stride 1."""
    if math.prod(kernel_size) % 2:
        return weight_to_minkowski(weight, kernel_size, stride)
    _channels(weight, kernel_size)
    return _copied(weight)


def weight_from_minkowski(weight: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return a weight of MinkowskiEngine 0.5 in our layout.

    Args:
        weight: ``kernel`` of its convolutions: (K, C_in, C_out) for a hyper-cube window, the first
            axis the fastest for odd and even sizes; or (C_in, C_out) for a kernel of one site.
        kernel_size: One integer per axis.

    Source:
        ``src/kernel_region.hpp`` of MinkowskiEngine 0.5: its iterator counts axis 0 up first.
    """
    if weight.ndim == 2 and math.prod(kernel_size) == 1:
        return _copied(weight[None])
    c_in, c_out = _channels(weight, kernel_size)
    return _reversed_axes(weight.reshape(*reversed(kernel_size), c_in, c_out), kernel_size)


def weight_to_minkowski(weight: Tensor, kernel_size: Sequence[int], stride: PerAxis = 1) -> Tensor:
    """Return our weight in MinkowskiEngine's layout; two axes for one site at stride 1."""
    c_in, c_out = _channels(weight, kernel_size)
    if _is_pointwise(kernel_size, stride):
        return _copied(weight[0])
    return _reversed_axes(weight.reshape(*kernel_size, c_in, c_out), kernel_size)


def weight_from_sparseconvnet(weight: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return a weight of facebookresearch/SparseConvNet in our layout.

    Args:
        weight: (K, groups, C_in / groups, C_out / groups), or (K, C_in, C_out) as before groups
            came in 2019; taps in row-major order. Groups become blocks, with zeros between them.
        kernel_size: One integer per axis.

    Source:
        ``submanifoldConvolution.py``, ``convolution.py`` and ``RectangularRegions.h`` there.
    """
    if weight.ndim == 4:
        blocks = [torch.block_diag(*tap) for tap in weight]  # type: ignore[no-untyped-call]
        weight = torch.stack(blocks)
    _channels(weight, kernel_size)
    return _copied(weight)


def weight_to_sparseconvnet(weight: Tensor, kernel_size: Sequence[int], groups: int = 1) -> Tensor:
    """Return our weight in SparseConvNet's layout (K, groups, C_in / groups, C_out / groups).

    Raises:
        ValueError: If a number outside the blocks of the groups is not zero: it would be lost.
    """
    c_in, c_out = _channels(weight, kernel_size)
    if c_in % groups or c_out % groups:
        raise ValueError(f"{c_in} to {c_out} channels cannot be split into {groups} groups")
    split = weight.reshape(len(weight), groups, c_in // groups, groups, c_out // groups)
    blocks = _copied(split.diagonal(dim1=1, dim2=3).movedim(-1, 1))
    if int(blocks.count_nonzero()) != int(weight.count_nonzero()):
        raise ValueError(
            f"the weight joins channels of different groups, and {groups} groups cannot hold that: "
            "use groups=1"
        )
    return blocks


def _read_spconv_shape(shape: torch.Size, layout: SpconvLayout) -> tuple[int, tuple[int, ...], int]:
    """Return C_out, the kernel size and C_in."""
    if len(shape) < 3:
        raise ValueError(
            f"weight has shape {tuple(shape)}, expected {layout} with one axis or more for the "
            "window between or before the channels"
        )
    if layout == "KRSC":
        return shape[0], tuple(shape[1:-1]), shape[-1]
    if layout == "RSKC":
        return shape[-2], tuple(shape[:-2]), shape[-1]
    if layout == "RSCK":
        return shape[-1], tuple(shape[:-2]), shape[-2]
    raise ValueError(f"layout is {layout!r}, expected one of KRSC, RSKC, RSCK")


def _is_pointwise(kernel_size: Sequence[int], stride: PerAxis) -> bool:
    return math.prod(kernel_size) == math.prod(per_axis(stride, len(kernel_size), "stride")) == 1


def _channels(weight: Tensor, kernel_size: Sequence[int]) -> tuple[int, int]:
    """Return C_in and C_out of a weight (K, C_in, C_out), checked."""
    taps = math.prod(kernel_size)
    if weight.ndim != 3 or weight.shape[0] != taps:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, expected ({taps}, C_in, C_out): kernel_size "
            f"{tuple(kernel_size)} has {taps} taps"
        )
    return weight.shape[1], weight.shape[2]


def _reversed_axes(window: Tensor, kernel_size: Sequence[int]) -> Tensor:
    """Return (K, C_in, C_out) with the axes of the window in the opposite order."""
    axes = range(len(kernel_size))
    return _copied(window.permute(*reversed(axes), -2, -1).reshape(-1, *window.shape[-2:]))


def _copied(weight: Tensor) -> Tensor:
    """Return a copy: training one network must not change the other."""
    return weight.clone(memory_format=torch.contiguous_format)
