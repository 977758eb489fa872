"""BatchDataset: samples that are prepared a whole batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules.samplers import Key


class PreparedBatch(NamedTuple):
    """Several samples that were prepared together.

    Args:
        batch: B samples.
        targets: int64, shape (B,).
    """

    batch: SparseBatch
    targets: Tensor


class BatchDataset(Dataset[tuple[SparseBatch, int]], ABC):
    """Samples as (SparseBatch, class number), for any DataLoader.

    A sample is asked for by its index, or by a key (epoch, index), which the samplers of
    `spcnn_lightning.datamodules.samplers` yield.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def prepare(self, keys: Sequence[int | Key]) -> PreparedBatch:
        """Return the samples of ``keys``, in that order."""

    def __getitem__(self, key: int | Key) -> tuple[SparseBatch, int]:
        """Return one sample as a batch of one, and its class."""
        batch, targets = self.prepare([key])
        return batch, int(targets[0])

    def __getitems__(self, keys: Sequence[int | Key]) -> list[PreparedBatch]:
        """Return all samples of a batch as one prepared batch; DataLoader calls this.

        An empty batch has the features of the others: a process may have no sample left.
        """
        if not keys:
            first, targets = self.prepare([0])
            sites = ActiveSet(first.coords[:0], first.spatial_shape, 0, validate=False)
            empty = SparseBatch(sites, first.features[:0], first.ground_state, validate=False)
            return [PreparedBatch(empty, targets[:0])]
        return [self.prepare(keys)]


def split_keys(keys: Sequence[int | Key]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the epochs and the indices of ``keys``; a bare index means epoch 0."""
    pairs = [key if isinstance(key, tuple) else (0, key) for key in keys]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _collate_prepared(
    batch: Sequence[PreparedBatch],
    *,
    collate_fn_map: dict[type | tuple[type, ...], Callable[..., Any]] | None = None,
) -> Any:
    return collate(batch)


# Without this, a DataLoader without collate_fn would stack the targets into shape (1, B).
default_collate_fn_map[PreparedBatch] = _collate_prepared
