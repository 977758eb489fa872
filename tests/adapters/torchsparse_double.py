"""A test double of ``torchsparse.backend``, the compiled extension of TorchSparse 2.1.

It is not TorchSparse: it has the signatures of its engine calls *and their traps*, so that the
adapter is kept honest where the library is not installed. The fixture ``torchsparse_double`` makes
an importable package of it, whose ``__init__`` asks for the GPU's capability as the original does.

The CPU calls were compared with the extension of version 2.1.0 built from commit 385f5ce, and
test_torchsparse_library.py repeats that wherever the library is installed: same results for random
maps, the wrong ones of the centre shortcut included, and the same refusal of float64. With a single
tap and as many rows out as in the original reads past the end of the counts, and may crash; the
double raises there. The calls named ``cuda`` and those of implicit GEMM are written from the source
and have never been compared; they take CPU tensors here.
"""

from __future__ import annotations

import torch
from torch import Tensor

INIT = '''"""Test double of TorchSparse 2.1; see tests/adapters/torchsparse_double.py."""
import torch

torch.cuda.get_device_capability()  # the original does this in backends.init(), on import

from . import backend  # noqa: E402, F401

__version__ = "2.1.0"
CALLS: list = backend.CALLS


class SparseTensor:
    """Holds what it is given, as the original does."""

    def __init__(self, feats, coords, stride=1, spatial_range=None):
        self.feats, self.coords = feats, coords
        self.stride = (stride,) * 3 if isinstance(stride, int) else tuple(stride)
        self.spatial_range = None if spatial_range is None else tuple(spatial_range)
'''

CALLS: list[tuple[str, int]] = []
"""(Call, number of torch's threads) in order, for tests that spy."""


def conv_forward_gather_scatter_cpu(
    in_feat: Tensor,
    out_feat: Tensor,
    kernel: Tensor,
    neighbor_map: Tensor,
    neighbor_offset: Tensor,
    transpose: bool,
) -> None:
    """Write the result into ``out_feat``."""
    CALLS.append(("forward_cpu", torch.get_num_threads()))
    _require(torch.float32, in_feat, kernel, out_feat)
    _forward(in_feat, out_feat, kernel, neighbor_map, neighbor_offset, transpose)


def conv_backward_gather_scatter_cpu(
    in_feat: Tensor,
    grad_in_feat: Tensor,
    grad_out_feat: Tensor,
    kernel: Tensor,
    grad_kernel: Tensor,
    neighbor_map: Tensor,
    neighbor_offset: Tensor,
    transpose: bool,
) -> None:
    """Write both gradients, always; backward knows no centre shortcut."""
    CALLS.append(("backward_cpu", torch.get_num_threads()))
    _require(torch.float32, in_feat, kernel, grad_out_feat)
    _backward(
        *(in_feat, grad_in_feat, grad_out_feat, kernel, grad_kernel),
        *(neighbor_map, neighbor_offset, transpose),
    )


def conv_forward_gather_scatter_cuda(
    in_feat: Tensor,
    kernel: Tensor,
    neighbor_map: Tensor,
    neighbor_offset: Tensor,
    input_mask: Tensor,
    output_mask: Tensor,
    output_size: int,
    epsilon: float,
    mm_thresh: int,
    conv_mode: int,
    transpose: bool,
    global_buffer: Tensor,
) -> Tensor:
    """Return the result; the arguments are those of the compiled binding, which takes no None."""
    CALLS.append(("forward_cuda", torch.get_num_threads()))
    for argument in (input_mask, output_mask, global_buffer):
        if not isinstance(argument, Tensor):
            raise TypeError("conv_forward_gather_scatter_cuda(): incompatible function arguments")
    assert input_mask.dtype == output_mask.dtype == torch.int32
    assert conv_mode == 0, "other modes read the masks and the buffer"
    assert (epsilon, mm_thresh) == (0.0, 0)
    out = in_feat.new_zeros(output_size, kernel.shape[2])
    _forward(in_feat, out, kernel, neighbor_map, neighbor_offset, transpose)
    return out


def conv_backward_gather_scatter_cuda(
    in_feat: Tensor,
    grad_in_feat: Tensor,
    grad_out_feat: Tensor,
    kernel: Tensor,
    grad_kernel: Tensor,
    neighbor_map: Tensor,
    neighbor_offset: Tensor,
    transpose: bool,
) -> None:
    """Write both gradients. Half precision moves in pairs of channels, without padding them."""
    CALLS.append(("backward_cuda", torch.get_num_threads()))
    if in_feat.dtype is torch.float16 and (kernel.shape[1] % 2 or kernel.shape[2] % 2):
        raise RuntimeError("CUDA error: misaligned address")
    _backward(
        *(in_feat, grad_in_feat, grad_out_feat, kernel, grad_kernel),
        *(neighbor_map, neighbor_offset, transpose),
    )


def conv_forward_implicit_gemm_cuda(
    in_feats: Tensor,
    kernel: Tensor,
    out_in_map: Tensor,
    num_out_feats: int,
    num_out_channels: int,
    allow_tf32: bool,
    allow_fp16: bool,
) -> Tensor:
    """Return y[o] = sum over k of x[table[o, k]] W[k]; blocks of 128 rows read the table."""
    CALLS.append(("forward_implicit_gemm", torch.get_num_threads()))
    assert {type(allow_tf32), type(allow_fp16)} == {bool}
    _require_table(out_in_map, num_out_feats)
    assert all(tensor.is_contiguous() for tensor in (kernel, in_feats))
    rows = torch.cat([in_feats, in_feats.new_zeros(1, in_feats.shape[1])])
    return torch.einsum("nkc,kcd->nd", rows[out_in_map[:num_out_feats].long()], kernel)


def conv_backward_wgrad_implicit_gemm_cuda(
    in_feats: Tensor,
    kernel: Tensor,
    out_in_map: Tensor,
    split_k_iters: int,
    allow_tf32: bool,
    allow_fp16: bool,
) -> Tensor:
    """Return the transposed weight gradient, (K * C_out, C_in); ``kernel`` are the input rows."""
    CALLS.append(("backward_implicit_gemm", torch.get_num_threads()))
    assert split_k_iters == 32
    _require_table(out_in_map, len(kernel))
    rows = torch.cat([in_feats, in_feats.new_zeros(1, in_feats.shape[1])])
    grad = torch.einsum("nkd,nc->kdc", rows[out_in_map[: len(kernel)].long()], kernel)
    return grad.reshape(-1, kernel.shape[1])


def _forward(x, out, kernel, pairs, counts, transpose):
    if x.shape[1] != kernel.shape[1]:
        raise ValueError("Input feature size and kernel size mismatch")
    out.zero_()
    taps = len(kernel)
    shortcut = taps % 2 == 1 and len(out) == len(x)
    if shortcut:  # "this must be submanifold": every row times the centre weight
        if taps == 1:
            raise MemoryError("the original looks for the largest of no counts here")
        out.copy_(x @ kernel[taps // 2])
    for tap, (source, target) in enumerate(_groups(pairs, counts, transpose)):
        if not (shortcut and tap == taps // 2):
            out[target] += x[source] @ kernel[tap]  # not atomic: a target may occur once only


def _backward(x, grad_x, grad_out, kernel, grad_kernel, pairs, counts, transpose):
    grad_x.resize_as_(x).zero_()
    grad_kernel.resize_as_(kernel).zero_()
    for tap, (source, target) in enumerate(_groups(pairs, counts, transpose)):
        grad_x[source] += grad_out[target] @ kernel[tap].T
        grad_kernel[tap] = x[source].T @ grad_out[target]


def _groups(pairs, counts, transpose):
    """Read the map as the engine does: raw int32 memory, the counts on the CPU."""
    assert pairs.dtype == counts.dtype == torch.int32, "expected scalar type Int"
    assert counts.device.type == "cpu", "the counts are read on the host"
    raw = torch.as_strided(pairs, (pairs.numel() // 2, 2), (2, 1)).long()
    for group in raw.split(counts.tolist()):
        yield (group[:, 1], group[:, 0]) if transpose else (group[:, 0], group[:, 1])


def _require(dtype, *tensors):
    for tensor in tensors:
        if tensor.dtype is not dtype:
            raise RuntimeError(f"expected scalar type Float but found {tensor.dtype}")
        assert tensor.is_contiguous(), "the engine reads raw memory"


def _require_table(table, rows):
    assert (table.dtype, table.is_contiguous()) == (torch.int32, True)
    assert len(table) % 128 == 0, "whole blocks of 128 rows are read"
    assert len(table) >= rows
    assert bool((table[rows:] == -1).all()), "rows past the end must be absent"
