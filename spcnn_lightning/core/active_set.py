"""ActiveSet: the sites of a batch that data reached, and the kernel maps built from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from spcnn_lightning.core.geometry import ConvGeometry

MAX_FIELD_SITES = 2**62
"""Most sites (samples times volume) that a field may have: site keys are int64."""


class CachedMap(Protocol):
    """What an `ActiveSet` needs to know of a kernel map that it keeps."""

    def relocated(self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]) -> CachedMap:
        """Return the same map with every tensor passed through ``move``."""
        ...


MapT = TypeVar("MapT", bound=CachedMap)


class ActiveSet:
    """The active sites of a batch of fields.

    Args:
        coords: int32, shape (N, 1 + D): sample, then one column per spatial axis. The order of
            the rows has no meaning, but features follow it.
        spatial_shape: Sizes of the field, in sites, D of them.
        batch_size: Number of samples B; a sample may have no site at all.
        tensor_stride: Distance of neighbouring sites, per axis, in sites of the input grid.
        offset: Place of site (0, ..., 0), per axis, in sites of the input grid.
        validate: Check dtype, range and duplicates. Only code that built ``coords`` itself
            should switch it off.

    Raises:
        TypeError: If ``coords`` is not int32.
        ValueError: If ``coords`` has the wrong shape, a site lies outside the field, a sample
            index is not in [0, B), or a site occurs twice.
    """

    __slots__ = (
        "__weakref__",
        "_filled",
        "_is_full",
        "_kernel_maps",
        "batch_size",
        "coords",
        "offset",
        "spatial_shape",
        "tensor_stride",
    )

    def __init__(
        self,
        coords: Tensor,
        spatial_shape: Sequence[int],
        batch_size: int,
        *,
        tensor_stride: Sequence[int] | None = None,
        offset: Sequence[int] | None = None,
        validate: bool = True,
    ) -> None:
        self.spatial_shape = tuple(int(size) for size in spatial_shape)
        self.batch_size = int(batch_size)
        self.tensor_stride = tuple(tensor_stride or (1,) * self.dimensions)
        self.offset = tuple(offset or (0,) * self.dimensions)
        if validate:
            _check_coords(coords, self.spatial_shape, self.batch_size)
        self.coords = coords.contiguous()
        self._kernel_maps: dict[tuple[str, ConvGeometry], CachedMap] = {}
        self._is_full: bool | None = None
        self._filled: ActiveSet | None = None
        if validate:
            _check_duplicates(self)

    @classmethod
    def full(
        cls,
        spatial_shape: Sequence[int],
        batch_size: int,
        device: torch.device | str = "cpu",
        *,
        tensor_stride: Sequence[int] | None = None,
        offset: Sequence[int] | None = None,
    ) -> ActiveSet:
        """Return the set of all sites of all samples, in row-major order.

        >>> ActiveSet.full((2,), 2).coords.tolist()
        [[0, 0], [0, 1], [1, 0], [1, 1]]
        """
        result = cls(
            _all_sites((batch_size, *spatial_shape), device),
            spatial_shape,
            batch_size,
            tensor_stride=tensor_stride,
            offset=offset,
            validate=False,
        )
        result._is_full = True
        return result

    @property
    def is_full(self) -> bool:
        """Whether all sites of all samples are active, with rows in row-major order.

        On a GPU, where looking would make the host wait, only of sets that are full by their make.
        """
        if self._is_full is None:
            complete = self.num_sites == self.batch_size * self.volume
            self._is_full = (
                complete
                and self.device.type == "cpu"
                and torch.equal(
                    self.coords, _all_sites((self.batch_size, *self.spatial_shape), "cpu")
                )
            )
        return self._is_full

    def filled(self) -> ActiveSet:
        """Return the set of all sites of the same fields; asked again, the same one."""
        if self._filled is None:
            with torch.inference_mode(False), torch.no_grad():
                self._filled = ActiveSet.full(
                    self.spatial_shape,
                    self.batch_size,
                    self.device,
                    tensor_stride=self.tensor_stride,
                    offset=self.offset,
                )
        return self._filled

    @property
    def dimensions(self) -> int:
        """Number of spatial axes, D."""
        return len(self.spatial_shape)

    @property
    def num_sites(self) -> int:
        """Number of active sites, N, in all samples together."""
        return self.coords.shape[0]

    def __len__(self) -> int:
        return self.num_sites

    @property
    def device(self) -> torch.device:
        """Where the coordinates lie."""
        return self.coords.device

    @property
    def volume(self) -> int:
        """Number of sites of one field, active or not."""
        return math.prod(self.spatial_shape)

    def keys(self) -> Tensor:
        """Return the row-major number of each site, int64, shape (N,); no two are equal."""
        return ravel(self.coords, self.spatial_shape)

    def sites_per_sample(self) -> Tensor:
        """Return the number of active sites of each sample, int64, shape (B,)."""
        return torch.bincount(self.coords[:, 0], minlength=self.batch_size)

    def kernel_map(self, builder: str, geometry: ConvGeometry, build: Callable[[], MapT]) -> MapT:
        """Return the map kept for ``(builder, geometry)``, calling ``build`` the first time.

        Maps are built outside inference mode: a batch seen in validation may be trained on later.
        """
        key = (builder, geometry)
        if key not in self._kernel_maps:
            with torch.inference_mode(False), torch.no_grad():
                self._kernel_maps[key] = build()
        return self._kernel_maps[key]  # type: ignore[return-value]  # the builder's own type

    def maps_of(self, builder: str) -> list[tuple[ConvGeometry, Any]]:
        """Return the windows whose maps ``builder`` has built on this set so far, with the maps."""
        found = self._kernel_maps.items()
        return [(geometry, built) for (name, geometry), built in found if name == builder]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ActiveSet:
        """Return the set on ``device``, with the kernel maps built so far."""
        if torch.device(device) == self.device:
            return self
        return self.relocated(lambda t: t.to(device, non_blocking=non_blocking), {})

    def relocated(self, move: Callable[[Tensor], Tensor], memo: dict[int, ActiveSet]) -> ActiveSet:
        """Return a copy with every tensor passed through ``move``; shared sets stay shared."""
        if id(self) in memo:
            return memo[id(self)]
        moved = ActiveSet(
            move(self.coords),
            self.spatial_shape,
            self.batch_size,
            tensor_stride=self.tensor_stride,
            offset=self.offset,
            validate=False,
        )
        moved._is_full = self._is_full
        memo[id(self)] = moved
        for key, built in self._kernel_maps.items():
            moved._kernel_maps[key] = built.relocated(move, memo)
            if getattr(built, "input_coords", None) is not None:
                setattr(moved._kernel_maps[key], "input_coords", moved.coords)  # noqa: B010
        return moved

    def __repr__(self) -> str:
        return (
            f"ActiveSet({self.num_sites} sites, spatial_shape={self.spatial_shape}, "
            f"batch_size={self.batch_size}, device={str(self.device)!r})"
        )


def _all_sites(sizes: Sequence[int], device: torch.device | str) -> Tensor:
    axes = [torch.arange(size, dtype=torch.int32, device=device) for size in sizes]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(sizes))


def ravel(coords: Tensor, spatial_shape: Sequence[int]) -> Tensor:
    """Return row-major keys, int64, for ``coords`` of shape (..., 1 + D)."""
    key = coords[..., 0].long()
    for axis, size in enumerate(spatial_shape):
        key = key * size + coords[..., axis + 1]
    return key


def unravel(keys: Tensor, spatial_shape: Sequence[int]) -> Tensor:
    """Return the coordinates, int32 of shape (..., 1 + D), that have these row-major keys."""
    columns = []
    for size in reversed(spatial_shape):
        columns.append(keys % size)
        keys = torch.div(keys, size, rounding_mode="floor")
    columns.append(keys)
    return torch.stack(columns[::-1], dim=-1).int()


def check_field(spatial_shape: Sequence[int], batch_size: int) -> None:
    """Raise ValueError if the field is empty, or too large for int64 site keys."""
    if batch_size < 0 or not spatial_shape or min(spatial_shape) < 1:
        raise ValueError(
            f"spatial_shape is {tuple(spatial_shape)} and batch_size {batch_size}: a field needs "
            "at least one axis and one site per axis, and batch_size may not be negative"
        )
    if max(1, batch_size) * math.prod(spatial_shape) > MAX_FIELD_SITES or (
        max(spatial_shape) >= 2**31
    ):
        raise ValueError(
            f"a batch of {batch_size} fields of shape {tuple(spatial_shape)} has more sites than "
            "int64 keys and int32 coordinates can number: take a smaller field or batch"
        )


def _check_coords(coords: Tensor, spatial_shape: tuple[int, ...], batch_size: int) -> None:
    columns = 1 + len(spatial_shape)
    if coords.dtype != torch.int32:
        raise TypeError(f"coords are {coords.dtype}, expected torch.int32: call coords.int() first")
    if coords.ndim != 2 or coords.shape[1] != columns:
        raise ValueError(
            f"coords have shape {tuple(coords.shape)}, expected (N, {columns}): the sample, then "
            f"one column for each axis of spatial_shape {spatial_shape}"
        )
    check_field(spatial_shape, batch_size)
    limits = torch.tensor([batch_size, *spatial_shape], device=coords.device)
    outside = ((coords < 0) | (coords >= limits)).any(1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0, 0])
        raise ValueError(
            f"coords[{row}] = {coords[row].tolist()} (sample, *site) is out of range for "
            f"batch_size {batch_size} and spatial_shape {spatial_shape}; {int(outside.sum())} of "
            f"{coords.shape[0]} rows are: drop or move these sites before building the set"
        )


def _check_duplicates(active_set: ActiveSet) -> None:
    values, order = torch.sort(active_set.keys(), stable=True)
    same = values[1:] == values[:-1]
    if bool(same.any()):
        first = int(same.nonzero()[0, 0])
        one, other = int(order[first]), int(order[first + 1])
        raise ValueError(
            f"coords[{one}] and coords[{other}] are the same site "
            f"{active_set.coords[one].tolist()} (sample, *site); {int(same.sum())} rows repeat a "
            "site: merge them with SparseBatch.from_points(..., reduce='sum')"
        )
