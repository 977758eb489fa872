"""What flows between layers, sparse or dense, looked at in one way."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.reference.dense_field import DenseField

Value = SparseBatch | DenseField | Tensor
"""Between sparse layers, between the layers of a dense twin, and behind the readout."""


def tensors_of(value: Any) -> tuple[Tensor, ...]:
    """Return the tensors that gradients run through; none of another library's input."""
    if isinstance(value, SparseBatch):
        return value.features, value.ground_state
    if isinstance(value, DenseField):
        return value.values, value.ground_state
    return (value,) if isinstance(value, Tensor) else ()


def as_leaf(value: Any, requires_grad: bool) -> Any:
    """Return the value cut off from what computed it, on the same sites.

    What another library starts from is returned as it is: nothing computed it.
    """
    if not isinstance(value, Value):
        return value
    leaves = [t.detach().requires_grad_(requires_grad) for t in tensors_of(value)]
    if isinstance(value, SparseBatch):
        return value.replace(*leaves)
    if isinstance(value, DenseField):
        return DenseField(leaves[0], leaves[1], value.mask)
    return leaves[0]


def as_dense(value: Value) -> Tensor:
    """Return the values at every site, float64 on the CPU."""
    if isinstance(value, SparseBatch):
        dense = value.to_dense()
    else:
        dense = value.values if isinstance(value, DenseField) else value
    return dense.detach().to("cpu", torch.float64)


def loss_of(value: Value, targets: Tensor | None) -> Tensor:
    """Return cross entropy of logits, or the mean square of a field's rows; shape ()."""
    first = tensors_of(value)[0]
    if targets is None:
        return first.square().mean()
    return functional.cross_entropy(first.float() if first.dtype.itemsize < 4 else first, targets)


def with_fresh_sites(batch: SparseBatch) -> SparseBatch:
    """Return the same batch on a new active set, for which no kernel map has been built."""
    sites = batch.active_set
    fresh = ActiveSet(
        sites.coords.clone(),
        sites.spatial_shape,
        sites.batch_size,
        tensor_stride=sites.tensor_stride,
        offset=sites.offset,
        validate=False,
    )
    return SparseBatch(fresh, batch.features, batch.ground_state, validate=False)


def first_samples(batch: SparseBatch, count: int) -> SparseBatch:
    """Return the first samples of a batch."""
    count = min(count, batch.batch_size)
    rows = batch.coords[:, 0] < count
    sites = ActiveSet(batch.coords[rows], batch.spatial_shape, count, validate=False)
    return SparseBatch(sites, batch.features[rows], batch.ground_state, validate=False)


def one_sample(batch: SparseBatch, number: int) -> SparseBatch:
    """Return one sample as a batch of its own."""
    rows = batch.coords[:, 0] == number
    coords = batch.coords[rows]
    coords[:, 0] = 0
    sites = ActiveSet(coords, batch.spatial_shape, 1, validate=False)
    return SparseBatch(sites, batch.features[rows], batch.ground_state, validate=False)


def activity_mask(batch: SparseBatch) -> Tensor:
    """Return which sites are active: bool, shape (B, *spatial_shape)."""
    volume = batch.batch_size * batch.active_set.volume
    mask = torch.zeros(volume, dtype=torch.bool, device=batch.device)
    mask[batch.active_set.keys()] = True
    return mask.view(batch.batch_size, *batch.spatial_shape)


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    wait = getattr(getattr(torch, device.type, None), "synchronize", None)
    if wait is not None:
        wait()
