"""spconv 2 as a backend, any of its distributions: implicit GEMM on CUDA, Native on CPU.

What computes, and where:

- *CUDA*: implicit GEMM through ``spconv.pytorch.ops`` by default, or Native; float32 and float16.
  TF32 only where the user switches it on (``spconv.constants.SPCONV_ALLOW_TF32``; the centre tap
  of a Native submanifold window follows ``torch.backends.cuda.matmul.allow_tf32``). In float16
  spconv's tuner may pick kernels that accumulate in float16.
- *CPU, wheels built for CUDA* (``spconv-cu120`` and the like): spconv's own Native kernels.
- *CPU, any other build*: spconv's rulebook, computed with in torch. The CPU wheels (2.3.6, 2.3.8)
  add rows up on several threads that share a pointer: wrong rows, others in each run, and have no
  backward. Builds from source cannot be told apart from them.

Output sites are in row-major order, as core's are, in an `ActiveSet` of the map's own: a
convolution and a pooling of equal geometry give equal sets, but not one object.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import warnings
from functools import cached_property
from typing import ClassVar

import torch

from spcnn_lightning.adapters.spconv_common import SpconvFamily
from spcnn_lightning.adapters.spconv_rulebook import IN_TORCH, Library
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.geometry import Activity, ConvGeometry

DISTRIBUTION = re.compile(r"spconv(-cu\d+)?", re.IGNORECASE)


class SpconvBackend(SpconvFamily):
    """Sparse convolution by spconv; see the module for what computes where.

    Args:
        algorithm: ``"implicit_gemm"``, ``"implicit_gemm_split"`` or ``"native"``: what computes
            on CUDA, as `SpconvFamily` says.

    Example:
        >>> SpconvBackend("native").algorithm
        'native'
    """

    name = "spconv"
    capabilities = Capabilities(
        devices=frozenset({"cpu", "cuda"}),
        dtypes={
            "cpu": frozenset({torch.float64, torch.float32}),
            "cuda": frozenset({torch.float32, torch.float16}),
        },
        dimensions=range(1, 5),
        activities=frozenset(Activity),
        even_submanifold=False,
        partial_windows=False,
        deterministic=False,
    )
    # Tensor cores read half precision in blocks of 16 bytes; odd channels have no kernel.
    channel_multiples: ClassVar[dict[torch.dtype, int]] = {torch.float16: 8}

    def version(self) -> str | None:
        """Return "spconv-cu120 2.3.6", say, without importing it; None if it is not installed.

        If several distributions overwrite one another, all of them are named.
        """
        return " + ".join(self._distributions) or None

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return why it cannot run ``request``, one sentence each; an empty list means it can."""
        reasons = super().unsupported_reasons(request)
        if request.device == "cuda" and not self.availability() and self._is_cpu_build:
            reasons.append(
                f"was built for the CPU alone ({self.version()}): pip uninstall spconv and install "
                "the distribution of your CUDA version, spconv-cu120 say"
            )
        if request.dtype == torch.bfloat16:
            reasons.append("has no bfloat16 kernels: train with precision 16-mixed or 32-true")
        return reasons

    def _load(self) -> Library:
        if not self._distributions:
            raise ModuleNotFoundError("No module named 'spconv'")
        # Its use of torch.cuda.amp warns at import, many times, of what it alone could change.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ops = importlib.import_module("spconv.pytorch.ops")
            core = importlib.import_module("spconv.core")
        return Library(ops, core.ConvAlgo)

    def _import_failure(self, error: Exception) -> str:
        if isinstance(error, ModuleNotFoundError) and error.name in (None, "spconv"):
            return f"not installed ({error}): pip install 'spcnn-lightning[spconv]'"
        return (
            f"installed ({self.version()}) but cannot be imported ({type(error).__name__}: "
            f"{error}): uninstall every spconv and cumm distribution, then install one spconv"
        )

    def computes_in_torch(self, device: str) -> bool:
        """Whether the library gives its list of pairs alone on ``device``, "cpu" or "cuda"."""
        return device == "cpu" and not self._has_sound_cpu_kernels

    def _algorithm_on(self, device: str, window: ConvGeometry) -> str:
        if self.computes_in_torch(device):
            return IN_TORCH
        return super()._algorithm_on(device, window)

    @cached_property
    def _distributions(self) -> list[str]:
        found = [d for d in importlib.metadata.distributions() if DISTRIBUTION.fullmatch(d.name)]
        return list(dict.fromkeys(f"{d.name} {d.version}" for d in found))

    @property
    def _is_cpu_build(self) -> bool:
        return bool(self._library.ops.CPU_ONLY_BUILD)

    @property
    def _has_sound_cpu_kernels(self) -> bool:
        """Whether the CPU kernels are known to be right: the CUDA wheels have them unthreaded."""
        built_for_cuda = any("-cu" in name.lower() for name in self._distributions)
        return built_for_cuda and not self._is_cpu_build
