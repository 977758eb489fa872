"""Kernel maps of full fields, where every site is active: known without being built."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.map_tables import KernelMap
from spcnn_lightning.core.site_map import SiteMap


class FullFieldMap(KernelMap):
    """The map of a window that moves over fields without inactive sites, and over no padding.

    Its output set is full too, and rows lie in row-major order, so that dense operations take
    features as they are. Its tables are built only if somebody looks at them.

    Args:
        active_set: Full.
        geometry: A window for which `has_full_map` is true.
    """

    def __init__(self, active_set: ActiveSet, geometry: ConvGeometry) -> None:
        pairs = zip(active_set.tensor_stride, geometry.stride, strict=True)
        output = ActiveSet.full(
            geometry.output_shape(active_set.spatial_shape),
            active_set.batch_size,
            active_set.device,
            tensor_stride=[t * s for t, s in pairs],
            offset=active_set.offset,
        )
        SiteMap.__init__(self, geometry, output)
        self._input_shape, self.input_coords = active_set.spatial_shape, active_set.coords

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Number of samples, then sizes of the input field."""
        return (self.output.batch_size, *self._input_shape)

    @property
    def num_inputs(self) -> int:
        """Number of input rows, N."""
        return math.prod(self.input_shape)

    @cached_property
    def num_pairs(self) -> int:
        """Every tap of every window lies on a site."""
        return self.num_outputs * self.geometry.num_taps

    @cached_property
    def windows(self) -> Tensor:
        """See `KernelMap`."""
        with torch.inference_mode(False), torch.no_grad():
            geometry, device = self.geometry, self.output.device
            first = torch.arange(self.output.batch_size, device=device)
            taps = first.new_zeros(1)  # how far each lies behind the first tap, in rows
            for axis, size in enumerate(self._input_shape):
                sites = torch.arange(self.output.spatial_shape[axis], device=device)
                first = _sums(first * size, sites * geometry.stride[axis])
                along = torch.arange(geometry.kernel_size[axis], device=device)
                taps = _sums(taps * size, along * geometry.dilation[axis])
            table = first.new_empty(len(first) + 1, len(taps))
            torch.add(first[:, None], taps, out=table[:-1])
            table[-1] = self.num_inputs
            return table

    @cached_property
    def in_to_out(self) -> Tensor:  # type: ignore[override]
        """See `KernelMap`."""
        with torch.inference_mode(False), torch.no_grad():
            m, taps = self.num_outputs, self.geometry.num_taps
            rows = torch.arange(m, device=self.output.device)[:, None].expand(m, taps)
            return rows.new_full((self.num_inputs, taps), m).scatter_(0, self.out_to_in, rows)

    def relocated(
        self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]
    ) -> FullFieldMap:
        """Return the same map with every tensor passed through ``move``."""
        moved = copy.copy(self)
        moved.input_coords = None
        vars(moved).pop("pairs", None)
        moved._link(self.output.relocated(move, memo))
        for name in vars(self).keys() & {"windows", "in_to_out"}:
            vars(moved)[name] = move(vars(self)[name])
        return moved


def _sums(left: Tensor, right: Tensor) -> Tensor:
    """Return all sums of two vectors, in row-major order."""
    return (left[:, None] + right).flatten()


def has_full_map(active_set: ActiveSet, geometry: ConvGeometry) -> bool:
    """Return whether the map of ``geometry`` on a set is a `FullFieldMap`."""
    return (
        geometry.activity is Activity.DILATING
        and geometry.is_full_window
        and not any(map(any, geometry.padding))
        and active_set.num_sites > 0
        and active_set.is_full
    )
