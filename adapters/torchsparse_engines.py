"""The engine calls of TorchSparse 2.1: gather-scatter on CPU and CUDA, implicit GEMM on CUDA."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

SPLITS = 32
"""Partial sums of the weight gradient in implicit GEMM; the number that the library takes."""


class EngineMap(Protocol):
    """What the engines read of a kernel map; N input rows, M output rows, K taps."""

    @property
    def sizes(self) -> tuple[int, int]:
        """(N, M)."""
        ...

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """(Input row, output row), int32 (P, 2), grouped by tap, and int32 (K,) counts on CPU."""
        ...

    @property
    def tables(self) -> tuple[Tensor, Tensor]:
        """(Output -> input, input -> output), int32 (rows, K), -1 where nothing is.

        The rows are padded with -1 to whole blocks of 128.
        """
        ...


class Engine(Protocol):
    """One way of the library to convolve on one kind of device."""

    def forward(self, x: Tensor, weight: Tensor, rulebook: EngineMap, transposed: bool) -> Tensor:
        """Return the output rows. All tensors contiguous, of one dtype, with at least one pair."""
        ...

    def backward(
        self, x: Tensor, weight: Tensor, grad: Tensor, rulebook: EngineMap, transposed: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of rows and weights; the library computes both or neither."""
        ...


class GatherScatterCpu:
    """For each tap: gather the rows, multiply, add to the output rows. float32.

    Args:
        calls: The library's extension, ``torchsparse.backend``.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls

    def forward(self, x: Tensor, weight: Tensor, rulebook: EngineMap, transposed: bool) -> Tensor:
        """Return the output rows; see `Engine.forward`."""
        rows, declared = _output_rows(x, weight, rulebook, transposed)
        out = x.new_zeros(declared, weight.shape[2])
        with _on_engine_terms(x.device):
            self.calls.conv_forward_gather_scatter_cpu(x, out, weight, *rulebook.pairs, transposed)
        return out[:rows]

    def backward(
        self, x: Tensor, weight: Tensor, grad: Tensor, rulebook: EngineMap, transposed: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients; see `Engine.backward`."""
        grads = torch.zeros_like(x), torch.zeros_like(weight)
        with _on_engine_terms(x.device):
            self.calls.conv_backward_gather_scatter_cpu(
                x, grads[0], grad, weight, grads[1], *rulebook.pairs, transposed
            )
        return grads


class GatherScatterCuda:
    """The same on CUDA, in float32 and float16, there with an even number of channels.

    Args:
        calls: The library's extension, ``torchsparse.backend``.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls

    def forward(self, x: Tensor, weight: Tensor, rulebook: EngineMap, transposed: bool) -> Tensor:
        """Return the output rows; see `Engine.forward`."""
        rows, declared = _output_rows(x, weight, rulebook, transposed)
        # The binding takes no None; masks and buffer serve modes other than 0, not used here.
        mask, buffer = x.new_empty(0, dtype=torch.int32), x.new_empty(0)
        unused = (0.0, 0, 0)  # epsilon, mm_thresh, conv_mode
        with _on_engine_terms(x.device):
            out: Tensor = self.calls.conv_forward_gather_scatter_cuda(
                x, weight, *rulebook.pairs, mask, mask, declared, *unused, transposed, buffer
            )
        return _handed_over(out[:rows])

    def backward(
        self, x: Tensor, weight: Tensor, grad: Tensor, rulebook: EngineMap, transposed: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients; see `Engine.backward`."""
        grads = torch.zeros_like(x), torch.zeros_like(weight)
        with _on_engine_terms(x.device):
            self.calls.conv_backward_gather_scatter_cuda(
                x, grads[0], grad, weight, grads[1], *rulebook.pairs, transposed
            )
        return grads


def _output_rows(
    x: Tensor, weight: Tensor, rulebook: EngineMap, transposed: bool
) -> tuple[int, int]:
    """Return how many rows come out, and how many to tell gather-scatter.

    With odd K and as many rows out as in, it takes the map for a submanifold one and multiplies
    every row by the centre weight, in forward alone; with one tap it reads memory past the counts.
    One more row tells it otherwise.
    """
    rows = rulebook.sizes[0 if transposed else 1]
    return rows, rows + int(weight.shape[0] % 2 == 1 and rows == len(x))


class ImplicitGemm:
    """One product over a table of rows, CUDA only: y[o] = sum over k of x[table[o, k]] W[k].

    The unsorted kernels are used for both passes. They need the two tables and nothing else; the
    library's sorted ones skip absent taps by means of bit masks, for fewer than 32 taps.

    Args:
        calls: The library's extension, ``torchsparse.backend``.
    """

    def __init__(self, calls: Any) -> None:
        self.calls = calls

    def forward(self, x: Tensor, weight: Tensor, rulebook: EngineMap, transposed: bool) -> Tensor:
        """Return the output rows; see `Engine.forward`."""
        table = rulebook.tables[1 if transposed else 0]
        rows = rulebook.sizes[0 if transposed else 1]
        with _on_engine_terms(x.device):
            out = self._product(x, weight, table, rows)
        return _handed_over(out)

    def backward(
        self, x: Tensor, weight: Tensor, grad: Tensor, rulebook: EngineMap, transposed: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients; see `Engine.backward`."""
        table = rulebook.tables[0 if transposed else 1]
        taps, c_in, c_out = weight.shape
        with _on_engine_terms(x.device):
            grad_x = self._product(grad, weight.transpose(1, 2).contiguous(), table, len(x))
            grad_w = self.calls.conv_backward_wgrad_implicit_gemm_cuda(
                grad, x, table, SPLITS, *_precisions(x.device)
            )
            grad_w = grad_w.reshape(taps, c_out, c_in).transpose(1, 2).contiguous()
        return _handed_over(grad_x), _handed_over(grad_w)

    def _product(self, x: Tensor, weight: Tensor, table: Tensor, rows: int) -> Tensor:
        out: Tensor = self.calls.conv_forward_implicit_gemm_cuda(
            x, weight, table, rows, weight.shape[2], *_precisions(x.device)
        )
        return out


def _precisions(device: torch.device) -> tuple[bool, bool]:
    """Return whether TF32 is allowed, as torch's own products have it, and whether float16 is."""
    capability = torch.cuda.get_device_capability(device)
    return torch.backends.cuda.matmul.allow_tf32 and capability >= (8, 0), capability >= (7, 5)


@contextlib.contextmanager
def _on_engine_terms(device: torch.device) -> Iterator[None]:
    """Run engine calls on one CPU thread, or on the device and stream that their kernels take.

    The CPU loops open a parallel region for every row, which makes more threads slower. The CUDA
    kernels are launched on the current device's default stream, whatever stream torch is on.
    """
    if device.type != "cuda":
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
        return
    with torch.cuda.device(device):
        current, default = torch.cuda.current_stream(), torch.cuda.default_stream()
        default.wait_stream(current)
        with torch.cuda.stream(default):
            yield
        current.wait_stream(default)


def _handed_over(out: Tensor) -> Tensor:
    """Return a tensor made on the default stream, safe to free on the current one."""
    if out.device.type == "cuda":
        out.record_stream(torch.cuda.current_stream(out.device))
    return out


ENGINES: dict[str, dict[str, Callable[[Any], Engine]]] = {
    "gather_scatter": {"cpu": GatherScatterCpu, "cuda": GatherScatterCuda},
    "implicit_gemm": {"cuda": ImplicitGemm},
}
"""The engine of each algorithm on each device type."""
