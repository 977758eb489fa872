"""Join samples into batches, for any DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from spcnn_lightning.core.sparse_batch import SparseBatch


def collate(samples: Sequence[Any]) -> Any:
    """Join sparse samples, and whatever stands beside them, into one batch.

    A sample is a `SparseBatch`, or a tuple or list that holds one and, say, a target. It may hold
    several samples of the batch (a data set that prepares whole batches): a tensor beside it whose
    first axis has one entry per sample is concatenated; anything else is stacked as in torch.

    Returns:
        The form of one sample: for (SparseBatch, target) pairs a `SparseBatch` of B samples and
        a tensor of shape (B,).
    """
    first = samples[0]
    if not isinstance(first, (tuple, list)):
        return default_collate(list(samples))
    sizes = {entry.batch_size for entry in first if isinstance(entry, SparseBatch)}
    return tuple(_join(column, sizes) for column in zip(*samples, strict=True))


def _join(column: Sequence[Any], sizes: set[int]) -> Any:
    first = column[0]
    if isinstance(first, torch.Tensor) and first.ndim > 0 and first.shape[0] in sizes:
        return torch.cat(list(column))
    return default_collate(list(column))


def _collate_sparse(
    batch: Sequence[SparseBatch],
    *,
    collate_fn_map: dict[type | tuple[type, ...], Callable[..., Any]] | None = None,
) -> SparseBatch:
    return SparseBatch.concatenate_samples(batch)


default_collate_fn_map[SparseBatch] = _collate_sparse
