"""A backend in as few lines as it takes: loops over the taps, gradients by autograd."""

from __future__ import annotations

import importlib.metadata

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, kernel_map


class ExampleBackend:
    """Sparse convolution, one matrix product for each tap. Right, and not fast."""

    name = "example"
    capabilities = Capabilities(
        devices=frozenset({"cpu"}),
        dtypes={"cpu": frozenset({torch.float32, torch.float64})},
        dimensions=range(1, 4),
    )

    def availability(self) -> list[str]:
        """Return an empty list: it needs nothing but torch."""
        return []

    def version(self) -> str | None:
        """Return name and version of this distribution, or None if it is not installed."""
        try:
            return f"spcnn-example-backend {importlib.metadata.version('spcnn-example-backend')}"
        except importlib.metadata.PackageNotFoundError:
            return None

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return why it cannot run ``request``."""
        return [*self.availability(), *self.capabilities.reasons_against(request)]

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> KernelMap:
        """Return the kernel map of core, which the active set keeps."""
        return kernel_map(active_set, geometry)

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool = False
    ) -> Tensor:
        """Convolve rows that are zero at every other site; see `spcnn_lightning.core.backend`."""
        rows_in, rows_out, counts = kernel_map.pairs
        if transposed:
            rows_in, rows_out = rows_out, rows_in
        rows = kernel_map.num_inputs if transposed else kernel_map.num_outputs
        out = features.new_zeros(rows, weight.shape[2])
        pairs = zip(rows_in.split(counts), rows_out.split(counts), weight, strict=True)
        for sources, targets, matrix in pairs:
            out = out.index_add(0, targets, features[sources] @ matrix)
        return out
