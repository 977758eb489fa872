"""`SparseBatch` from and to the sparse tensors of spconv, TorchSparse and torch.

Those hold zero at every site that they do not list, so a ground state other than zero cannot be
handed over: it is an error unless ``drop_ground_state`` is set. Gradients pass in both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.interop.libraries import import_spconv, import_torchsparse

TORCHSPARSE_DIMENSIONS = 3


def to_spconv_tensor(batch: SparseBatch, drop_ground_state: bool = False) -> Any:
    """Return the batch as a ``spconv.pytorch.SparseConvTensor``.

    Args:
        batch: Any number of dimensions; rows keep their order.
        drop_ground_state: Hand a batch over although its inactive sites will become zero.

    Raises:
        ValueError: If the ground state is not zero and is not to be dropped, or there is no sample.
        BackendUnsupportedError: If spconv cannot be imported.
    """
    features = _zero_ground_features(batch, "spconv", drop_ground_state)
    if batch.batch_size == 0:
        raise ValueError("the batch has no samples, and spconv has no tensor of none: leave it out")
    tensor_class = import_spconv().SparseConvTensor
    return tensor_class(features, batch.coords, list(batch.spatial_shape), batch.batch_size)


def from_spconv_tensor(tensor: Any) -> SparseBatch:
    """Return a ``SparseConvTensor`` as a batch with ground state zero; rows keep their order.

    Raises:
        TypeError, ValueError: If a site lies outside its field or occurs twice, a sample is not
            in [0, batch_size), or a number is not finite; spconv itself checks none of these.
    """
    sites = ActiveSet(tensor.indices.int(), tuple(tensor.spatial_shape), int(tensor.batch_size))
    return SparseBatch(sites, tensor.features)


def to_torchsparse_tensor(batch: SparseBatch, drop_ground_state: bool = False) -> Any:
    """Return the batch as a ``torchsparse.SparseTensor`` of version 2.1.

    Fields of one or two dimensions get singleton axes at the end. ``spatial_range`` is set: without
    it the library crops to the largest active coordinate.

    Args:
        batch: One to three dimensions; rows keep their order.
        drop_ground_state: Hand a batch over although its inactive sites will become zero.

    Raises:
        ValueError: If the ground state is not zero and is not to be dropped, or the field has more
            than three dimensions.
        BackendUnsupportedError: If TorchSparse 2.1 cannot be imported.
    """
    features = _zero_ground_features(batch, "TorchSparse", drop_ground_state)
    missing = TORCHSPARSE_DIMENSIONS - len(batch.spatial_shape)
    if missing < 0:
        raise ValueError(
            f"TorchSparse holds fields of three dimensions, not {len(batch.spatial_shape)} "
            f"({batch.spatial_shape})"
        )
    coords = torch.nn.functional.pad(batch.coords, (0, missing))
    return import_torchsparse().SparseTensor(
        features,
        coords.contiguous(),
        stride=(*batch.active_set.tensor_stride, *[1] * missing),
        spatial_range=(batch.batch_size, *batch.spatial_shape, *[1] * missing),
    )


def from_torchsparse_tensor(
    tensor: Any,
    dimensions: int = TORCHSPARSE_DIMENSIONS,
    spatial_range: Sequence[int] | None = None,
) -> SparseBatch:
    """Return a ``torchsparse.SparseTensor`` of version 2.1 as a batch with ground state zero.

    Args:
        tensor: Its columns are (batch, x, y, z); in versions before 2.1 the batch came last.
        dimensions: Number of axes to keep; those after it must be singletons.
        spatial_range: (B, X, Y, Z), where the tensor itself has none.

    Raises:
        TypeError, ValueError: If no field is known, an axis that is to go is not a singleton, a
            site lies outside the field or occurs twice, or a number is not finite.
    """
    sizes = tensor.spatial_range if spatial_range is None else spatial_range
    if sizes is None:
        raise ValueError(
            "the tensor has no spatial_range, and its coordinates do not tell how large the field "
            "and the batch are: give spatial_range=(B, X, Y, Z)"
        )
    batch_size, *shape = (int(size) for size in sizes)
    if any(size != 1 for size in shape[dimensions:]):
        raise ValueError(
            f"the field {tuple(shape)} does not have {dimensions} dimensions: the axes after the "
            "first ones are not singletons"
        )
    # All columns are looked at before some are cut off.
    full = ActiveSet(tensor.coords, shape, batch_size)
    sites = ActiveSet(
        full.coords[:, : dimensions + 1],
        shape[:dimensions],
        batch_size,
        tensor_stride=tuple(tensor.stride)[:dimensions],
        validate=False,
    )
    return SparseBatch(sites, tensor.feats)


def to_sparse_coo(batch: SparseBatch, drop_ground_state: bool = False) -> Tensor:
    """Return the batch as a coalesced torch sparse COO tensor, sorted by site.

    Args:
        batch: Any number of dimensions.
        drop_ground_state: Hand a batch over although its inactive sites will become zero.

    Returns:
        Shape (B, *spatial_shape, C); the last axis is dense, so ``values()`` has shape (N, C).

    Raises:
        ValueError: If the ground state is not zero and is not to be dropped.
    """
    features = _zero_ground_features(batch, "a sparse COO tensor", drop_ground_state)
    size = (batch.batch_size, *batch.spatial_shape, batch.num_channels)
    return torch.sparse_coo_tensor(
        batch.coords.T.long(), features, size, check_invariants=True
    ).coalesce()


def from_sparse_coo(tensor: Tensor) -> SparseBatch:
    """Return a torch sparse COO tensor as a batch with ground state zero, sorted by site.

    Args:
        tensor: Shape (B, *spatial_shape, C), all axes sparse but the last. Sites that occur more
            than once are summed, which is what an uncoalesced tensor means.

    Raises:
        ValueError: If it is not sparse COO, has another number of dense axes or no spatial axis,
            or a number is not finite.
    """
    if tensor.layout is not torch.sparse_coo or tensor.dense_dim() != 1 or tensor.sparse_dim() < 2:
        dense = tensor.dense_dim() if tensor.layout is torch.sparse_coo else tensor.ndim
        raise ValueError(
            f"the tensor of shape {tuple(tensor.shape)} has layout {tensor.layout} and {dense} "
            "dense axes, expected torch.sparse_coo of shape (B, *spatial_shape, C) with one, the "
            "channels: x.to_sparse(x.ndim - 1) makes it from a dense tensor"
        )
    tensor = tensor.coalesce()
    batch_size, *shape = tensor.shape[:-1]
    sites = ActiveSet(tensor.indices().T.int(), shape, batch_size)
    return SparseBatch(sites, tensor.values())


def _zero_ground_features(batch: SparseBatch, target: str, drop: bool) -> Tensor:
    """Return the features of a batch that the target can hold."""
    if not drop and bool(batch.ground_state.any()):
        largest = float(batch.ground_state.abs().max())
        raise ValueError(
            f"the ground state is not zero (largest entry {largest:.3g}), but {target} holds zero "
            "at every site that is not listed: subtract it from the features, or set "
            "drop_ground_state=True to lose it"
        )
    return batch.features
