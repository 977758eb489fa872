"""TorchSparse 2.1 as a backend: its gather-scatter and implicit-GEMM engines on our kernel maps.

Of the library only the engine calls are used, never its kernel-map cache, modules or
``SparseTensor``: its own maps ignore dilation and padding, crop to the largest active coordinate
and cannot dilate at stride 1. The engines never look at coordinates, so dimensions, windows and
strides are ours. What ran where: gather-scatter on CPU, values and gradients; nothing on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import ModuleType
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spcnn_lightning.adapters.torchsparse_engines import ENGINES, Engine
from spcnn_lightning.adapters.torchsparse_library import (
    SOURCE,
    has_cuda,
    installed_version,
    is_old_gpu,
    load,
)
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.errors import BackendUnsupportedError
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, kernel_map

ALGORITHMS = ("gather_scatter", "implicit_gemm")

MAX_ENTRIES = 2**31 - 1
"""The engines number the entries of a matrix, row times channels plus channel, with int32."""


class TorchSparseBackend:
    """Sparse convolution by the engine calls of TorchSparse 2.1.

    Args:
        algorithm: ``"gather_scatter"`` runs on CPU (float32, on one thread: its CPU loops are
            slower on two) and CUDA (float32, float16). ``"implicit_gemm"`` runs on CUDA alone,
            where it is the faster one, and takes TF32 where
            ``torch.backends.cuda.matmul.allow_tf32`` is set.

    Raises:
        ValueError: If ``algorithm`` is neither word.
    """

    name = "torchsparse"
    algorithms: ClassVar[tuple[str, ...]] = ALGORITHMS

    def __init__(self, algorithm: str = ALGORITHMS[0]) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm is {algorithm!r}, expected one of {', '.join(ALGORITHMS)}")
        self.algorithm = algorithm
        if algorithm != ALGORITHMS[0]:
            self.name = f"{self.name}:{algorithm}"
        dtypes = {"cuda": frozenset({torch.float32, torch.float16})}
        if algorithm == "gather_scatter":
            dtypes["cpu"] = frozenset({torch.float32})
        self.capabilities = Capabilities(devices=frozenset(dtypes), dtypes=dtypes)

    def version(self) -> str | None:
        """Return "torchsparse 2.1.0", say, without importing it; None if it is not installed."""
        number = installed_version()
        return None if number is None else f"torchsparse {number}"

    def availability(self) -> list[str]:
        """Return why the library cannot be used here at all; an empty list means it can."""
        return list(self._loaded[1])

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return why it cannot run ``request``, one sentence each; an empty list means it can."""
        library, reasons = self._loaded
        reasons = [*reasons, *self.capabilities.reasons_against(request)]
        if library is not None and request.device == "cuda" and not has_cuda(library):
            reasons.append(f"was built without CUDA: build it with FORCE_CUDA=1 from {SOURCE}")
        elif self.algorithm == "implicit_gemm" and request.dtype == torch.float16 and is_old_gpu():
            reasons.append("has no float16 implicit GEMM before compute capability 7.5")
        return reasons

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> EngineMap:
        """Return core's kernel map with the tables that the engines read."""
        core = kernel_map(active_set, geometry)
        return active_set.kernel_map(type(self).name, geometry, lambda: EngineMap(core))

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: EngineMap, transposed: bool = False
    ) -> Tensor:
        """Convolve zero-background rows; see `spcnn_lightning.core.backend.Backend.convolve`.

        Not differentiable twice.

        Raises:
            BackendUnsupportedError: If the library, dtype or device does not do, or a matrix has
                more entries than int32 can number.
        """
        self._check(features, weight, kernel_map, transposed)
        c_in, c_out = weight.shape[1:]
        odd_in, odd_out = c_in % 2, c_out % 2
        if features.dtype is torch.float16 and (odd_in or odd_out):
            # Half precision moves in pairs of channels; backward does not pad by itself.
            features = torch.nn.functional.pad(features, (0, odd_in))
            weight = torch.nn.functional.pad(weight, (0, odd_out, 0, odd_in))
        out: Tensor = _Convolve.apply(  # type: ignore[no-untyped-call]
            features, weight, self._engines[features.device.type], kernel_map, transposed
        )
        return out[:, :c_out]

    def _check(self, x: Tensor, weight: Tensor, rulebook: EngineMap, transposed: bool) -> None:
        request = OpRequest(rulebook.core.geometry, x.device.type, x.dtype, transposed)
        reasons = self.unsupported_reasons(request)
        if weight.dtype != x.dtype:
            reasons.append(f"takes one dtype, not {x.dtype} rows with {weight.dtype} weights")
        _, c_in, c_out = weight.shape
        rows = max(rulebook.sizes) + 1
        if rows * (max(c_in, c_out) + 1) > MAX_ENTRIES:
            reasons.append(
                f"numbers at most {MAX_ENTRIES} entries of a matrix, not {rows} rows of "
                f"{max(c_in, c_out)} channels: take a smaller batch"
            )
        if reasons:
            listed = "\n".join(f"  {self.name}: {reason}" for reason in reasons)
            raise BackendUnsupportedError(
                f"backend {self.name!r} cannot run this convolution\n  asked for: {request}\n"
                f"{listed}\n  backend='torch' runs every floating dtype on every device"
            )

    @cached_property
    def _loaded(self) -> tuple[ModuleType | None, list[str]]:
        return load()

    @cached_property
    def _engines(self) -> dict[str, Engine]:
        library, _ = self._loaded
        assert library is not None  # _check has refused otherwise
        return {name: kind(library.backend) for name, kind in ENGINES[self.algorithm].items()}


class EngineMap:
    """Core's kernel map, with its pairs and tables in the form of TorchSparse's engines.

    Attributes:
        core: The map itself.
    """

    def __init__(self, core: KernelMap) -> None:
        self.core = core

    @property
    def sizes(self) -> tuple[int, int]:
        """Number of input rows, N, and of output rows, M."""
        return self.core.num_inputs, self.core.num_outputs

    @property
    def output(self) -> ActiveSet:
        """The active set of the output."""
        return self.core.output

    @cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """(Input row, output row), int32 (P, 2), grouped by tap, and int32 (K,) counts on CPU."""
        with torch.inference_mode(False), torch.no_grad():
            rows_in, rows_out, counts = self.core.pairs
            table = torch.stack([rows_in, rows_out], dim=1).int()
            return table, torch.tensor(counts, dtype=torch.int32)

    @cached_property
    def tables(self) -> tuple[Tensor, Tensor]:
        """(Output -> input, input -> output), int32 (rows, K); see `_engine_table`."""
        core = self.core
        with torch.inference_mode(False), torch.no_grad():
            return (
                _engine_table(core.out_to_in, core.num_inputs),
                _engine_table(core.in_to_out, core.num_outputs),
            )

    def relocated(self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]) -> EngineMap:
        """Return the same map with every tensor passed through ``move``."""
        return EngineMap(self.core.relocated(move, memo))


def _engine_table(table: Tensor, absent: int) -> Tensor:
    """Return the table with -1 where nothing is, padded to whole blocks of 128 rows."""
    rows = torch.where(table < absent, table, -1).int()
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(rows) % 128), value=-1)


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        engine: Engine,
        rulebook: EngineMap,
        transposed: bool,
    ) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.arguments = engine, rulebook, transposed
        if rulebook.core.num_pairs == 0:
            return x.new_zeros(rulebook.sizes[0 if transposed else 1], weight.shape[2])
        return engine.forward(x, weight, rulebook, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        engine, rulebook, transposed = ctx.arguments
        if rulebook.core.num_pairs == 0:
            return torch.zeros_like(x), torch.zeros_like(weight), None, None, None
        grads = engine.backward(x, weight, grad.contiguous(), rulebook, transposed)
        return *grads, None, None, None
