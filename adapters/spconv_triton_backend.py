"""spconv-triton as a backend: spconv's interface in Triton, for NVIDIA and AMD, without wheels.

The library runs on a GPU only: its rulebooks, too, are Triton kernels. Nothing here ever ran on
one. Checked without a GPU: refusals, layouts and the order of calls against a double of the
library, and the library's own kernels in Triton's interpreter.

For Python 3.12 to 3.14, AMD and new NVIDIA cards, for which spconv has no wheel. Output sites are
in row-major order, as with spconv.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import cached_property

import torch

from spcnn_lightning.adapters.spconv_common import SpconvFamily
from spcnn_lightning.adapters.spconv_rulebook import Library
from spcnn_lightning.core.active_set import MAX_FIELD_SITES
from spcnn_lightning.core.backend import Capabilities


class SpconvTritonBackend(SpconvFamily):
    """Sparse convolution by spconv-triton, on CUDA and ROCm devices.

    Products of float32 are IEEE; float16 and bfloat16 accumulate in float32, unless the library's
    own switches say otherwise.

    Args:
        algorithm: ``"implicit_gemm"``, ``"implicit_gemm_split"`` or ``"native"``, as
            `SpconvFamily` says.
    """

    name = "spconv_triton"
    capabilities = Capabilities(
        devices=frozenset({"cuda"}),
        dtypes={"cuda": frozenset({torch.float32, torch.float16, torch.bfloat16})},
        dimensions=range(1, 5),
        even_submanifold=False,
        partial_windows=False,
        deterministic=False,
    )
    max_field = MAX_FIELD_SITES

    def version(self) -> str | None:
        """Return "spconv-triton 1.0.0", say, without importing it; None if it is not installed."""
        return self._version

    def _load(self) -> Library:
        if self._version is None:
            raise ModuleNotFoundError("No module named 'spconv_triton'")
        ops = importlib.import_module("spconv_triton.pytorch.ops")
        return Library(ops, importlib.import_module("spconv_triton.core").ConvAlgo)

    def _import_failure(self, error: Exception) -> str:
        if self._version is None:
            return f"not installed ({error}): pip install spconv-triton"
        if isinstance(error, ModuleNotFoundError) and error.name == "triton":
            return (
                f"installed ({self._version}) but Triton is not ({error}): it comes with torch for "
                "CUDA or ROCm, not with torch for CPU"
            )
        return (
            f"installed ({self._version}) but cannot be imported ({type(error).__name__}: {error})"
        )

    @cached_property
    def _version(self) -> str | None:
        try:
            return f"spconv-triton {importlib.metadata.version('spconv-triton')}"
        except importlib.metadata.PackageNotFoundError:
            return None
