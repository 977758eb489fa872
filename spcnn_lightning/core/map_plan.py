"""Which kernel maps a network needs, and building them ahead: they depend on the sites alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.geometry import ConvGeometry
from spcnn_lightning.core.kernel_map import kernel_map
from spcnn_lightning.core.sparse_batch import SparseBatch


class MapPlan(NamedTuple):
    """The windows on a set of sites, and those on the sites that each of them leads to.

    Attributes:
        windows: Pairs of a window and the plan for its output set, in the order of use. A
            submanifold window leads to the set itself, and has an empty plan.

    Example:
        >>> sites = ActiveSet(torch.tensor([[0, 2, 2]], dtype=torch.int32), (6, 6), 1)
        >>> first = kernel_map(sites, ConvGeometry((3, 3)))
        >>> second = kernel_map(first.output, ConvGeometry((2, 2), stride=2))
        >>> plan = plan_of(sites)
        >>> [(g.kernel_size, [h.stride for h, _ in behind.windows]) for g, behind in plan.windows]
        [((3, 3), [(2, 2)])]
    """

    windows: tuple[tuple[ConvGeometry, MapPlan], ...] = ()


def plan_of(active_set: ActiveSet) -> MapPlan:
    """Return the plan of the kernel maps that were built on a set so far, say by a network.

    Maps that an engine builds itself are not in it, nor what was built on their output sets.
    """
    return MapPlan(
        tuple(
            (geometry, MapPlan() if found.output is active_set else plan_of(found.output))
            for geometry, found in active_set.maps_of("core")
        )
    )


def build_ahead(active_set: ActiveSet, plan: MapPlan) -> None:
    """Build the kernel maps of a plan, those of the outputs included, and their transposes.

    They stay with the set: wherever it goes, to another process or device, they go along, and
    a network that was planned for does not build them again.
    """
    for geometry, behind in plan.windows:
        found = kernel_map(active_set, geometry)
        # Of full fields too: where the engine has no way of its own for them it looks at these.
        _ = found.windows, found.in_to_out, found.num_pairs
        if found.output is not active_set:
            build_ahead(found.output, behind)


class CollateWithMaps:
    """A ``collate_fn`` that builds kernel maps ahead, in the processes of a DataLoader.

    Args:
        collate: Joins the samples.
        plan: Of the network that the batches are for.
    """

    def __init__(self, collate: Callable[[Any], Any], plan: MapPlan) -> None:
        self.collate, self.plan = collate, plan

    def __call__(self, samples: Any) -> Any:
        """Return the joined samples; of each `SparseBatch` among them the maps are built."""
        batch = self.collate(samples)
        for entry in batch if isinstance(batch, (tuple, list)) else (batch,):
            if isinstance(entry, SparseBatch):
                build_ahead(entry.active_set, self.plan)
        return batch
