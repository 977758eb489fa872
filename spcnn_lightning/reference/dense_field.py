"""What takes the place of a SparseBatch and its ActiveSet in a dense twin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch


@dataclass(frozen=True)
class DenseSites:
    """What takes the place of an `ActiveSet`: to be kept and handed to an `InverseConv`."""

    spatial_shape: tuple[int, ...]
    """Sizes of the field, in sites."""
    mask: Tensor | None
    """bool, shape (B, *spatial_shape): the active sites; None if nobody asked."""

    def __getattr__(self, name: str) -> NoReturn:
        _refuse("ActiveSet", hasattr(ActiveSet, name), name)


@dataclass(frozen=True)
class DenseField:
    """Values at every site of a batch of fields, the ground state, and which sites are active."""

    values: Tensor
    """Shape (B, C, *spatial_shape)."""
    ground_state: Tensor
    """Shape (C,)."""
    mask: Tensor | None = None
    """bool, shape (B, *spatial_shape): the active sites; None if nobody asked."""

    @property
    def batch_size(self) -> int:
        """Number of samples, B."""
        return self.values.shape[0]

    @property
    def num_channels(self) -> int:
        """Number of features of a site, C."""
        return self.values.shape[1]

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Sizes of the field, in sites."""
        return tuple(self.values.shape[2:])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Where the values lie."""
        return self.values.device

    @property
    def active_set(self) -> DenseSites:
        """Where the active sites are, for an `InverseConv` to return to."""
        return DenseSites(self.spatial_shape, self.mask)

    def __getattr__(self, name: str) -> NoReturn:
        _refuse("SparseBatch", hasattr(SparseBatch, name), name)


def _refuse(sparse: str, has_it: bool, name: str) -> NoReturn:
    """Raise for an attribute that only the sparse counterpart has, or that nothing has."""
    if has_it:
        raise AttributeError(
            f"a forward method used {sparse}.{name}, which its dense form does not have: the dense "
            "twin follows modules that hand batches from layer to layer; give the dense form of "
            "this module in dense_twin(network, forms={ItsClass: function})"
        )
    raise AttributeError(f"the dense form of {sparse} has no attribute {name!r}")


def make_dense_field(
    values: Tensor, ground_state: Tensor | None, mask: Tensor | None
) -> DenseField:
    """Check the input of a dense twin; a ground state that is not given is zero.

    Raises:
        ValueError: If shapes disagree, or a site outside the mask differs from the ground state.
    """
    if values.ndim < 3:
        raise ValueError(f"x has shape {tuple(values.shape)}, expected (B, C, *spatial_shape)")
    channels = values.shape[1]
    ground = values.new_zeros(channels) if ground_state is None else ground_state
    if ground.shape != (channels,):
        raise ValueError(f"ground_state has shape {tuple(ground.shape)}, expected ({channels},)")
    if mask is not None:
        expected = (values.shape[0], *values.shape[2:])
        if mask.shape != expected or mask.dtype != torch.bool:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}, expected torch.bool of shape "
                f"{expected}"
            )
        differs = (values.detach().movedim(1, -1) != ground.detach()).any(-1) & ~mask
        if bool(differs.any()):
            raise ValueError(
                f"{int(differs.sum())} sites outside the mask differ from the ground state: add "
                "them to the mask or set them to the ground state"
            )
    return DenseField(values, ground, mask)
