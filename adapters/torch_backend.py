"""The built-in backend: pure torch, every device, dtype and dimension, deterministic."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor

from spcnn_lightning.adapters import torch_rows
from spcnn_lightning.adapters.torch_dense import (
    DIMENSIONS,
    GATHER_COST,
    WEIGHT_COST,
    Box,
    DenseBox,
    box_of,
    convolve_field,
    pays_for_weights,
)
from spcnn_lightning.adapters.torch_full import can_fill, full_outputs, share_of_outputs
from spcnn_lightning.adapters.torch_ground import (
    BY_TAP,
    GATHER,
    PROJECT,
    GroundWay,
    WithGround,
    ground_of,
)
from spcnn_lightning.adapters.torch_ways import ByTap, GatherFirst, ProjectFirst
from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.backend import Capabilities, OpRequest
from spcnn_lightning.core.full_field import FullFieldMap
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import KernelMap, kernel_map

TAP_COST = {"cpu": 4_000_000, "cuda": 1_000_000_000}
"""Multiply-adds that take the time of the calls for one tap alone (measured)."""
CLEAR_GAIN = 0.8
"""A dense box is taken if it costs at most this share of the best other way: costs are rough."""
GAIN_TO_FILL = 0.8
"""The same for fields to be filled, which later layers compute whole, too."""
MAP_COST = 2_000
"""Multiply-adds that take the time of a (site, tap) in a kernel map; full fields need none."""


class TorchBackend:
    """Sparse convolution in torch operations alone: the reference and the default.

    One of four ways to the same sum is taken for each call. *Project first*: one matrix product
    to all taps, then a sum of gathered rows; exact work where every input reaches all taps.
    *Gather first*: the windows side by side, then one product; best for few input channels.
    *By tap*: a product for each tap on the pairs alone; best for strided and submanifold maps.
    *Dense box*: torch's dense convolution of the box around the sites; best where the sites fill
    it, on CPUs alone. Full fields are convolved densely as they are, and the first three ways
    take the ground state along (`convolve_with_ground`).
    What the backward pass can gather again is not kept. No temporary of either pass has more
    numbers than the largest of ``torch_rows.MAX_BUFFER`` (256 MiB in float32), the rows of the
    input, those of the output, the weights, ``CACHE_BLOCK`` for each thread, and ``LEAST_ROWS``
    whole windows, plus two rows. Each thread may hold sums for the weights; kernel maps and tables
    of row numbers, K a row, come on top.
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

    def prefers_full(
        self, active_set: ActiveSet, geometry: ConvGeometry, features: Tensor, weight: Tensor
    ) -> bool:
        """Return whether it would better convolve these fields with all of their sites active."""
        if not can_fill(active_set, geometry, features, weight):
            return False
        outputs = full_outputs(active_set, geometry)
        if not pays_for_weights(outputs, weight):
            return False
        filling = GATHER_COST * active_set.batch_size * active_set.volume * weight.shape[1]
        dense = weight.numel() * (outputs + WEIGHT_COST) + filling

        def sparse(rows_out: int) -> int:
            taps = geometry.num_taps
            pairs = taps * min(active_set.num_sites, rows_out)
            work = _work_of_ways(active_set.num_sites, rows_out, pairs, weight)
            return int(GAIN_TO_FILL * (min(work.values()) + MAP_COST * active_set.num_sites * taps))

        # The most outputs that they can have are known without looking.
        if dense >= sparse(min(outputs, active_set.num_sites * geometry.num_taps)):
            return False
        return dense < sparse(int(share_of_outputs(active_set, geometry) * outputs))

    def takes_ground(self, features: Tensor, weight: Tensor, kernel_map: KernelMap) -> bool:
        """Return whether `convolve_with_ground` is the way to do this convolution.

        It is not if a subclass convolves in a way of its own.
        """
        if type(self).convolve is not TorchBackend.convolve or not kernel_map.num_pairs:
            return False
        if _is_dense_convolution(kernel_map, features, weight):
            return True
        return not isinstance(_way(features, weight, kernel_map), Box)

    def convolve_with_ground(
        self,
        features: Tensor,
        ground: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kernel_map: KernelMap,
    ) -> tuple[Tensor, Tensor]:
        """Convolve rows among sites that hold the ground state.

        Full fields are convolved densely as they are; else each sum begins with the new ground
        state, or windows are gathered with the old one.

        Args:
            features: Shape (N, C_in).
            ground: Shape (C_in,).
            weight: Shape (K, C_in, C_out).
            bias: Shape (C_out,), or None.
            kernel_map: From `build_kernel_map`.

        Returns:
            Rows of shape (M, C_out) and the new ground state, (C_out,), bias included.
        """
        if _is_dense_convolution(kernel_map, features, weight):
            new_ground = ground_of(ground, weight, bias)
            return convolve_field(features, weight, bias, kernel_map), new_ground
        way = _WITH_GROUND[_cheapest(weight, kernel_map)[0]]  # in no box: `takes_ground` said so
        found: tuple[Tensor, Tensor] = WithGround.apply(  # type: ignore[no-untyped-call]  # torch's
            features, ground, weight, bias, kernel_map, way
        )
        return found

    def convolve(
        self, features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool = False
    ) -> Tensor:
        """Convolve zero-background rows; see `spcnn_lightning.core.backend.Backend.convolve`."""
        if kernel_map.num_pairs == 0:
            rows_out = kernel_map.num_inputs if transposed else kernel_map.num_outputs
            # Still a function of both, so that gradients are zeros and not missing.
            nothing = features[:0].sum() + weight[:0].sum()
            return features.new_zeros(rows_out, weight.shape[2]) + nothing
        way = _way(features, weight, kernel_map, transposed)
        out: Tensor
        if isinstance(way, Box):
            out = DenseBox.apply(features, weight, way)  # type: ignore[no-untyped-call]  # torch's
        else:
            out = way.apply(features, weight, kernel_map, transposed)  # type: ignore[no-untyped-call]  # torch's
        return out


Way = type[ProjectFirst] | type[GatherFirst] | type[ByTap]
_WITH_GROUND: dict[Way, GroundWay] = {ProjectFirst: PROJECT, GatherFirst: GATHER, ByTap: BY_TAP}


def _way(
    features: Tensor, weight: Tensor, kernel_map: KernelMap, transposed: bool = False
) -> Way | Box:
    """Return the way that costs least: a function, or the box for a dense convolution."""
    way, work = _cheapest(weight, kernel_map, transposed)
    box = None if transposed else _better_box(features, weight, kernel_map, work)
    return way if box is None else box


def _cheapest(weight: Tensor, kernel_map: KernelMap, transposed: bool = False) -> tuple[Way, int]:
    """Return the sparse way that costs least, and what it costs."""
    rows = kernel_map.num_inputs, kernel_map.num_outputs
    rows_in, rows_out = reversed(rows) if transposed else rows
    work = _work_of_ways(rows_in, rows_out, kernel_map.num_pairs, weight)
    way = min(work, key=work.__getitem__)
    return way, work[way]


def _work_of_ways(rows_in: int, rows_out: int, pairs: int, weight: Tensor) -> dict[Way, int]:
    """Return what each way costs, in multiply-adds; ways that need too large a buffer are out."""
    taps, c_in, c_out = weight.shape
    on_cpu = weight.device.type == "cpu"
    calls = TAP_COST["cpu" if on_cpu else "cuda"]
    # Of each pair; on a CPU rows stay in the cache from tap to tap.
    moved = 1.3 * (c_in + c_out) + 40 if on_cpu else 3 * (c_in + c_out)
    work: dict[Way, int] = {
        # It copies the weights, and the ground state reads them, which few rows do not pay for.
        ProjectFirst: rows_in * taps * (c_in * c_out + GATHER_COST * c_out)
        + 2 * GATHER_COST * weight.numel()
        + (0 if on_cpu else calls),
        GatherFirst: rows_out * taps * (c_in * c_out + GATHER_COST * c_in),
        ByTap: pairs * (c_in * c_out + int(GATHER_COST * moved)) + taps * calls,
    }
    if rows_in * taps * c_out > torch_rows.MAX_BUFFER:
        del work[ProjectFirst]
    return work


def _better_box(features: Tensor, weight: Tensor, kernel_map: KernelMap, work: int) -> Box | None:
    """Return the box in which a dense convolution clearly costs less than ``work``, if any."""
    c_in, c_out = weight.shape[1:]
    if weight.numel() * (kernel_map.num_outputs + WEIGHT_COST) >= work:
        return None
    box = box_of(kernel_map, features)
    if box is None or not box.fits(c_in, c_out):
        return None
    products, moved = box.work(c_in, c_out)
    return box if products + GATHER_COST * moved < CLEAR_GAIN * work else None


def _is_dense_convolution(
    kernel_map: KernelMap, features: Tensor, weight: Tensor
) -> TypeGuard[FullFieldMap]:
    """Return whether fields are full and torch's dense convolution is the way to convolve them.

    Not on other devices than CPUs, in dimensions or dtypes that torch has no such convolution for,
    and where the weights are large for so few rows.
    """
    if not isinstance(kernel_map, FullFieldMap) or features.device.type != "cpu":
        return False
    if kernel_map.geometry.dimensions not in DIMENSIONS or features.dtype is torch.float16:
        return False
    return pays_for_weights(kernel_map.num_outputs, weight)
