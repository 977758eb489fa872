"""The built-in backend: pure torch, every device, dtype and dimension, deterministic."""

from __future__ import annotations

import torch
from torch import Tensor

from spcnn_lightning.adapters import torch_ways
from spcnn_lightning.adapters.torch_dense import (
    DIMENSIONS,
    WEIGHT_COST,
    DenseBox,
    box_of,
    convolve_field,
)
from spcnn_lightning.adapters.torch_ways import ByTap, GatherFirst, ProjectFirst
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, kernel_map

GATHER_COST = 100
"""Multiply-adds that take the time of moving one number (measured order of magnitude)."""
TAP_COST = {"cpu": 7_000_000, "cuda": 1_000_000_000}
"""Multiply-adds that take the time of the calls for one tap alone, about 0.15 ms with backward."""
CLEAR_GAIN = 0.8
"""A dense box is taken if it costs at most this share of the best other way: costs are rough."""


class TorchBackend:
    """Sparse convolution in torch operations alone: the reference and the default.

    One of four ways to the same sum is taken for each call. *Project first*: one matrix product
    to all taps, then a sum of gathered rows; exact work where every input reaches all taps.
    *Gather first*: the windows side by side, then one product; best for few input channels.
    *By tap*: a product for each tap on the pairs alone; best for strided and submanifold maps.
    *Dense box*: torch's dense convolution of the box around the sites; best where the sites fill
    it, on CPUs alone. Full fields are convolved densely as they are (`convolve_field`).
    What the backward pass can gather again is not kept. No temporary of either pass has more
    numbers than the largest of ``torch_ways.MAX_BUFFER`` (256 MiB in float32), the rows of the
    input, those of the output, the weights, ``CACHE_BLOCK`` for each thread, and ``LEAST_ROWS``
    whole windows, plus one row; kernel maps and tables of row numbers, K a row, come on top.
    """

    name = "torch"
    capabilities = Capabilities(devices=None, dtypes=None)

    def availability(self) -> list[str]:
        """Return an empty list: torch is always there."""
        return []

    def version(self) -> str | None:
        """Return the version of torch."""
        return f"torch {torch.__version__}"

    def unsupported_reasons(self, request: OpRequest) -> list[str]:
        """Return an empty list: this backend runs everything."""
        return self.capabilities.reasons_against(request)

    def build_kernel_map(self, active_set: ActiveSet, geometry: ConvGeometry) -> KernelMap:
        """Return the shared kernel map of core."""
        return kernel_map(active_set, geometry)

    def takes_field(self, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> bool:
        """Return whether `convolve_field` is the way to do this convolution.

        Not where there are inactive sites, on other devices than CPUs, in dimensions or dtypes
        that torch has no such convolution for, and where the weights are large for so few rows.
        """
        if not isinstance(kernel_map, FullFieldMap) or features.device.type != "cpu":
            return False
        if kernel_map.geometry.dimensions not in DIMENSIONS or features.dtype is torch.float16:
            return False
        taps, c_in, c_out = weight.shape
        moved = kernel_map.num_outputs * (taps * c_in + 2 * (c_in + c_out))
        return weight.numel() * WEIGHT_COST < GATHER_COST * moved

    def convolve_field(
        self, features: Tensor, weight: Tensor, bias: Tensor | None, kernel_map: FullFieldMap
    ) -> Tensor:
        """Convolve full fields as they are, with no ground state to subtract.

        Args:
            features: Shape (N, C_in), all sites in row-major order.
            weight: Shape (K, C_in, C_out).
            bias: Shape (C_out,), or None.
            kernel_map: From `build_kernel_map`.

        Returns:
            Shape (M, C_out), bias included.
        """
        return convolve_field(features, weight, bias, kernel_map)

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool = False
    ) -> Tensor:
        """Convolve zero-background rows; see `spcnn_lightning.core.backend.Backend.convolve`."""
        rows_in = kernel_map.num_outputs if transposed else kernel_map.num_inputs
        rows_out = kernel_map.num_inputs if transposed else kernel_map.num_outputs
        taps, c_in, c_out = weight.shape
        if kernel_map.num_pairs == 0:
            # Still a function of both, so that gradients are zeros and not missing.
            nothing = features[:0].sum() + weight[:0].sum()
            return features.new_zeros(rows_out, c_out) + nothing
        work = {
            # It copies the weights, which few rows do not pay for.
            ProjectFirst: rows_in * taps * (c_in * c_out + GATHER_COST * c_out)
            + GATHER_COST * weight.numel(),
            GatherFirst: rows_out * taps * (c_in * c_out + GATHER_COST * c_in),
            ByTap: kernel_map.num_pairs * (c_in * c_out + GATHER_COST * 3 * (c_in + c_out))
            + taps * TAP_COST.get(features.device.type, TAP_COST["cuda"]),
        }
        if rows_in * taps * c_out > torch_ways.MAX_BUFFER:
            del work[ProjectFirst]
        way = min(work, key=work.__getitem__)
        out: Tensor
        least = weight.numel() * (rows_out + WEIGHT_COST)
        if not transposed and least < work[way] and (box := box_of(kernel_map, features)):
            products, moved = box.work(c_in, c_out)
            cost = products + GATHER_COST * moved
            if cost < CLEAR_GAIN * work[way] and box.fits(c_in, c_out):
                out = DenseBox.apply(features, weight, box)  # type: ignore[no-untyped-call]  # torch's
                return out
        out = way.apply(features, weight, kernel_map, transposed)  # type: ignore[no-untyped-call]  # torch's
        return out
