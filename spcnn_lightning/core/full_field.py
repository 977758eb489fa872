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
from spcnn_lightning.core.map_tables import KernelMap, build_tables
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

    @property
    def in_to_out(self) -> Tensor:  # type: ignore[override]
        """See `KernelMap`."""
        return self._tables[0]

    @property
    def windows(self) -> Tensor:
        """See `KernelMap`."""
        return self._tables[1]

    @cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.no_grad():
            samples, *sizes = self.input_shape
            built = build_tables(ActiveSet.full(sizes, samples, self.output.device), self.geometry)
            return built.in_to_out, built.windows

    def relocated(
        self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]
    ) -> FullFieldMap:
        """Return the same map with every tensor passed through ``move``."""
        moved = copy.copy(self)
        moved.input_coords = None
        vars(moved).pop("pairs", None)
        moved._link(self.output.relocated(move, memo))
        if "_tables" in vars(self):
            moved._tables = (move(self._tables[0]), move(self._tables[1]))
        return moved


def has_full_map(active_set: ActiveSet, geometry: ConvGeometry) -> bool:
    """Return whether the map of ``geometry`` on a set is a `FullFieldMap`."""
    return (
        geometry.activity is Activity.DILATING
        and geometry.is_full_window
        and not any(map(any, geometry.padding))
        and active_set.num_sites > 0
        and active_set.is_full
    )
