"""SparseBatch: active sites, their features, and the ground state of all other sites."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet, check_field, ravel, unravel


class SparseBatch:
    """A batch of fields in which all but the active sites hold one vector, the ground state.

    Immutable. Lightning and ``torch`` move it with ``.to()`` and ``.pin_memory()``; it is neither
    iterable nor a dataclass, so nobody takes its number of sites for a batch size.

    Args:
        active_set: N sites in B samples.
        features: Floating point, shape (N, C), one row per site in the order of the set.
        ground_state: Shape (C,), dtype and device of ``features``. Zeros if not given.
        validate: Check shapes, dtypes and that every number is finite. Only code that computed
            the tensors itself should switch it off.

    Raises:
        TypeError: If ``features`` is not floating point or ``ground_state`` differs in dtype.
        ValueError: If lengths disagree, devices differ, or a number is NaN or infinite.
    """

    __slots__ = ("active_set", "features", "ground_state")

    active_set: ActiveSet
    features: Tensor
    ground_state: Tensor

    def __init__(
        self,
        active_set: ActiveSet,
        features: Tensor,
        ground_state: Tensor | None = None,
        *,
        validate: bool = True,
    ) -> None:
        if ground_state is None:
            ground_state = features.new_zeros(features.shape[-1] if features.ndim else 0)
        if validate:
            _check_features(active_set, features, ground_state)
        for name, value in zip(self.__slots__, (active_set, features, ground_state), strict=True):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"SparseBatch is immutable: use replace({name}=...) for a new batch")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.active_set, self.features, self.ground_state)

    @property
    def batch_size(self) -> int:
        """Number of samples, B."""
        return self.active_set.batch_size

    @property
    def num_sites(self) -> int:
        """Number of active sites, N, in all samples together."""
        return self.active_set.num_sites

    @property
    def num_channels(self) -> int:
        """Number of features of a site, C."""
        return self.features.shape[1]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the field, in sites."""
        return self.active_set.spatial_shape

    @property
    def coords(self) -> Tensor:
        """The active sites, int32, shape (N, 1 + D)."""
        return self.active_set.coords

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the features."""
        return self.features.dtype

    @property
    def device(self) -> torch.device:
        """Where the features lie."""
        return self.features.device

    def replace(
        self, features: Tensor | None = None, ground_state: Tensor | None = None
    ) -> SparseBatch:
        """Return a batch on the same sites with other features or another ground state.

        Raises:
            TypeError: If the two have not one floating point dtype.
            ValueError: If there is not one row per site, or not one ground state per feature.
        """
        features = self.features if features is None else features
        ground_state = self.ground_state if ground_state is None else ground_state
        _check_shapes(self.active_set, features, ground_state)
        return SparseBatch(self.active_set, features, ground_state, validate=False)

    def to(self, *args: Any, **kwargs: Any) -> SparseBatch:
        """Return the batch on another device or in another dtype, as `torch.Tensor.to` does.

        Cached kernel maps move along.
        """
        features = self.features.to(*args, **kwargs)
        sites = self.active_set.to(features.device, bool(kwargs.get("non_blocking", False)))
        return SparseBatch(sites, features, self.ground_state.to(*args, **kwargs), validate=False)

    def pin_memory(self) -> SparseBatch:
        """Return the batch in page-locked memory."""
        sites = self.active_set.relocated(Tensor.pin_memory, {})
        features, ground = self.features.pin_memory(), self.ground_state.pin_memory()
        return SparseBatch(sites, features, ground, validate=False)

    def to_dense(self) -> Tensor:
        """Return the field as shape (B, C, *spatial_shape). Differentiable."""
        active = self.active_set
        rows = self.ground_state.expand(self.batch_size * active.volume, -1)
        dense = rows.index_copy(0, active.keys(), self.features)
        dense = dense.reshape(self.batch_size, *self.spatial_shape, self.num_channels)
        return dense.movedim(-1, 1).contiguous()

    @staticmethod
    def from_dense(
        x: Tensor, ground_state: Tensor | None = None, mask: Tensor | None = None
    ) -> SparseBatch:
        """Return the sparse form of a dense field. Differentiable in both tensors.

        Args:
            x: Floating point, shape (B, C, *spatial_shape).
            ground_state: Shape (C,); zeros if not given.
            mask: bool, shape (B, *spatial_shape): the active sites. If not given, these are the
                sites where a channel differs from the ground state.

        Raises:
            ValueError: If shapes disagree, a number is not finite, or a site outside ``mask``
                differs from the ground state (its value would be lost).
        """
        if x.ndim < 3:
            raise ValueError(f"x has shape {tuple(x.shape)}, expected (B, C, *spatial_shape)")
        rows = x.movedim(1, -1)
        ground = x.new_zeros(x.shape[1]) if ground_state is None else ground_state
        if ground.shape != (x.shape[1],):
            raise ValueError(
                f"ground_state has shape {tuple(ground.shape)}, expected ({x.shape[1]},)"
            )
        differs = (rows.detach() != ground.detach()).any(-1)
        if mask is None:
            mask = differs
        elif mask.shape != differs.shape or mask.dtype != torch.bool:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool of shape "
                f"{tuple(differs.shape)}"
            )
        elif bool((differs & ~mask).any()):
            raise ValueError(
                f"{int((differs & ~mask).sum())} sites outside the mask differ from the ground "
                "state and would be lost: add them to the mask or set them to the ground state"
            )
        sites = ActiveSet(mask.nonzero().int(), x.shape[2:], x.shape[0], validate=False)
        return SparseBatch(sites, rows[mask], ground)

    @staticmethod
    def from_points(
        coords: Tensor,
        features: Tensor,
        spatial_shape: Sequence[int],
        batch_size: int,
        reduce: Literal["sum", "mean", "max"] = "sum",
    ) -> tuple[SparseBatch, Tensor]:
        """Merge points that fall on one site; the ground state is zero.

        Args:
            coords: int32, shape (P, 1 + D): sample, then the site, in range; repeats are allowed.
            features: Shape (P, C).
            spatial_shape: Sizes of the field, in sites.
            batch_size: Number of samples.
            reduce: How the features of one site are merged.

        Returns:
            The batch, and the row of each point in it, int64 of shape (P,).

        Raises:
            TypeError: If ``coords`` are not int32.
            ValueError: If a point lies outside the field, or lengths disagree.
        """
        check_field(spatial_shape, batch_size)
        if reduce not in ("sum", "mean", "max"):
            raise ValueError(f"reduce is {reduce!r}, expected 'sum', 'mean' or 'max'")
        expected = (features.shape[0], 1 + len(spatial_shape))
        if coords.shape != expected or features.ndim != 2:
            raise ValueError(
                f"coords have shape {tuple(coords.shape)} and features {tuple(features.shape)}, "
                f"expected {expected} and (P, C): one row per point, and for coords the sample "
                f"and one column for each axis of spatial_shape {tuple(spatial_shape)}"
            )
        unique, inverse = torch.unique(ravel(coords, spatial_shape), return_inverse=True)
        merged_coords = unravel(unique, spatial_shape)
        if coords.dtype != torch.int32 or not torch.equal(merged_coords[inverse], coords):
            # Points outside the field alias others: let the set name the first of them.
            ActiveSet(coords, spatial_shape, batch_size)
        sites = ActiveSet(merged_coords, spatial_shape, batch_size)
        rows = features.new_zeros(len(unique), features.shape[1])
        if reduce == "max":
            index = inverse[:, None].expand_as(features)
            rows = rows.scatter_reduce(0, index, features, "amax", include_self=False)
        else:
            rows = rows.index_add(0, inverse, features)
        if reduce == "mean":
            rows = rows / torch.bincount(inverse, minlength=len(unique))[:, None]
        return SparseBatch(sites, rows), inverse

    @staticmethod
    def concatenate_samples(batches: Sequence[SparseBatch]) -> SparseBatch:
        """Join batches along the sample axis.

        Raises:
            TypeError: If dtypes differ.
            ValueError: If there is none, or fields, places in the input grid or ground states
                differ, or if several ground states need a gradient.
        """
        if not batches:
            raise ValueError("there is no batch to concatenate")
        first = batches[0]
        if len(batches) == 1:
            return first
        coords, start = [], 0
        for batch in batches:
            if batch.dtype != first.dtype:
                raise TypeError(f"batches are {first.dtype} and {batch.dtype}: convert one first")
            if batch.ground_state.requires_grad and batch.ground_state is not first.ground_state:
                raise ValueError(
                    "batches whose ground states are different tensors that need a gradient cannot "
                    "be joined, since one batch has one ground state: join them before the network"
                )
            grids = [(b.active_set.tensor_stride, b.active_set.offset) for b in (first, batch)]
            if grids[0] != grids[1]:
                raise ValueError(
                    f"batches lie at different places of the input grid, (stride, offset) "
                    f"{grids[0]} and {grids[1]}: join them where they come from one layer"
                )
            if batch.spatial_shape != first.spatial_shape or not torch.equal(
                batch.ground_state, first.ground_state
            ):
                raise ValueError(
                    f"batches of field {first.spatial_shape} with ground state "
                    f"{first.ground_state.tolist()} and of field {batch.spatial_shape} with "
                    f"{batch.ground_state.tolist()} cannot be joined: bring them to one field and "
                    "one ground state first"
                )
            shift = torch.tensor([start] + [0] * len(first.spatial_shape), dtype=torch.int32)
            coords.append(batch.coords + shift.to(batch.device))
            start += batch.batch_size
        sites = ActiveSet(
            torch.cat(coords),
            first.spatial_shape,
            start,
            tensor_stride=first.active_set.tensor_stride,
            offset=first.active_set.offset,
            validate=False,
        )
        features = torch.cat([batch.features for batch in batches])
        return SparseBatch(sites, features, first.ground_state, validate=False)

    def __repr__(self) -> str:
        return (
            f"SparseBatch({self.num_sites} sites x {self.num_channels} channels, "
            f"spatial_shape={self.spatial_shape}, batch_size={self.batch_size}, "
            f"{self.dtype}, device={str(self.device)!r})"
        )


def _rebuild(active_set: ActiveSet, features: Tensor, ground_state: Tensor) -> SparseBatch:
    return SparseBatch(active_set, features, ground_state, validate=False)


def _check_shapes(active_set: ActiveSet, features: Tensor, ground_state: Tensor) -> None:
    if not features.is_floating_point() or ground_state.dtype != features.dtype:
        raise TypeError(
            f"features are {features.dtype} and ground_state is {ground_state.dtype}: both must "
            "have one floating point dtype"
        )
    if features.ndim != 2 or features.shape[0] != active_set.num_sites:
        raise ValueError(
            f"features have shape {tuple(features.shape)}, expected ({active_set.num_sites}, C): "
            "one row per active site"
        )
    if ground_state.shape != features.shape[1:]:
        raise ValueError(
            f"ground_state has shape {tuple(ground_state.shape)}, expected ({features.shape[1]},): "
            "one number per feature"
        )


def _check_features(active_set: ActiveSet, features: Tensor, ground_state: Tensor) -> None:
    _check_shapes(active_set, features, ground_state)
    if not features.device == ground_state.device == active_set.device:
        raise ValueError(
            f"coords are on {active_set.device}, features on {features.device} and ground_state on "
            f"{ground_state.device}: move them to one device"
        )
    finite = torch.isfinite(features)
    if not bool(finite.all() & torch.isfinite(ground_state).all()):
        bad = (~finite).nonzero()
        where = "the ground state"
        if len(bad):
            site = active_set.coords[bad[0, 0]].tolist()
            where = f"features[{int(bad[0, 0])}, {int(bad[0, 1])}] at (sample, *site) {site}"
        raise ValueError(
            f"{where} is not finite ({len(bad)} of {features.numel()} features are NaN or "
            "infinite): clean the data before building the batch"
        )
