"""The kernel map of a window on an active set: built once, or not at all where fields are full."""

from __future__ import annotations

from spcnn_lightning.core.active_set import ActiveSet, check_field
from spcnn_lightning.core.full_field import FullFieldMap, has_full_map
from spcnn_lightning.core.geometry import Activity, ConvGeometry
from spcnn_lightning.core.map_tables import KernelMap, build_tables

__all__ = ["KernelMap", "build_kernel_map", "kernel_map"]


def kernel_map(active_set: ActiveSet, geometry: ConvGeometry) -> KernelMap:
    """Return the kernel map of a window on an active set, building it the first time.

    Equal geometry on the same set returns the same map, and so the same output set.

    Raises:
        ValueError: If the window does not fit into the field, or does not keep a field's shape
            although it is submanifold.
    """
    return active_set.kernel_map("core", geometry, lambda: build_kernel_map(active_set, geometry))


def build_kernel_map(active_set: ActiveSet, geometry: ConvGeometry) -> KernelMap:
    """Build the kernel map of ``geometry`` on ``active_set``; see `kernel_map`."""
    shape = geometry.output_shape(active_set.spatial_shape)
    check_field(shape, active_set.batch_size)
    if geometry.activity is Activity.SUBMANIFOLD and shape != active_set.spatial_shape:
        raise ValueError(
            f"a submanifold window keeps the field, but kernel_size {geometry.kernel_size} "
            f"with padding {geometry.padding} turns {active_set.spatial_shape} into {shape}: "
            "build the geometry with ConvGeometry.submanifold(kernel_size, dilation)"
        )
    if has_full_map(active_set, geometry):
        return FullFieldMap(active_set, geometry)
    return build_tables(active_set, geometry)
