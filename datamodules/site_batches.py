"""Batches of equally many active sites, so that processes work equally long."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from spcnn_lightning.datamodules.batch_dataset import BatchDataset, PreparedBatch
from spcnn_lightning.datamodules.randomness import seeded_order
from spcnn_lightning.datamodules.samplers import ORDER_STREAM, EpochBatches
from spcnn_lightning.datamodules.workers import keep_working

_COUNTED_TOGETHER = 256


class SiteBatchSampler(EpochBatches):
    """Batches of nearly equally many sites, in all processes and all steps of an epoch.

    The order of the samples, a function of (seed, epoch), is cut into steps of equally many sites;
    the samples of a step are dealt out to the processes in the order of their sizes, forth and
    back. No batch has more sites than the budget, and each sample occurs once in an epoch. The
    number of batches is the same for all processes and epochs.

    Batches hold different numbers of samples, so weigh gradients by these, as `SparseClassifier`
    does. A batch is empty where a step has fewer samples than there are processes, which may happen
    if the budget is less than three of the largest samples.

    Args:
        sites: Shape (N,): how many sites each sample has; one without any counts as 1.
        sites_per_batch: The budget of a batch, per process: at least two of the largest samples.
        seed: Decides the orders.
        shuffle: False leaves the samples in their own order.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ValueError: If there is no sample, the budget is too small, or ``rank`` is not in
            0 .. world_size - 1.
    """

    def __init__(
        self,
        sites: ArrayLike,
        sites_per_batch: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(
                f"rank {rank} of {world_size} processes: ranks are 0 to {world_size - 1}"
            )
        self.sites = np.maximum(np.asarray(sites, np.int64).reshape(-1), 1)
        if len(self.sites) == 0:
            raise ValueError("there is no sample to make batches of")
        largest = int(self.sites.max())
        if sites_per_batch < 2 * largest:
            raise ValueError(
                f"sites_per_batch is {sites_per_batch}, and the largest sample has {largest} "
                f"sites: give at least {2 * largest}"
            )
        self.sites_per_batch, self.seed, self.shuffle = sites_per_batch, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        # A step has at most one sample more than its share, and so has each of its batches.
        share = world_size * (sites_per_batch - largest)
        self._steps = -(-int(self.sites.sum()) // share)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iteration yields from now on."""
        self.epoch = epoch

    def batches(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """Return the samples of each batch of an epoch for this process, in order."""
        order = np.arange(len(self.sites))
        if self.shuffle:
            order = seeded_order(len(order), self.seed, ORDER_STREAM, epoch)
        sites = self.sites[order]
        ends = np.cumsum(sites)
        # In halves of a site: the middle of a sample decides which step it belongs to.
        steps = (2 * ends - sites) * self._steps // (2 * ends[-1])
        by_size = np.lexsort((-sites, steps))
        starts = np.searchsorted(steps, np.arange(self._steps + 1))
        place = np.arange(len(order)) - starts[steps]
        rounds, rank = np.divmod(place, self.world_size)
        rank = np.where(rounds % 2 == 0, rank, self.world_size - 1 - rank)
        mine = rank == self.rank
        cuts = np.searchsorted(steps[mine], np.arange(1, self._steps))
        return np.split(order[by_size][mine], cuts)

    def settings(self) -> dict[str, int]:
        """Return what decides, besides the epoch, which samples a batch holds."""
        return {
            "num_samples": len(self.sites),
            "sites_per_batch": self.sites_per_batch,
            "world_size": self.world_size,
            "seed": self.seed,
        }

    def __len__(self) -> int:
        return self._steps


def count_sites(
    dataset: BatchDataset, indices: Iterable[int] | None = None, num_workers: int = 0
) -> NDArray[np.int64]:
    """Return how many active sites samples of a data set have, by preparing each once.

    Args:
        dataset: Without augmentation, which changes the counts a little in each epoch.
        indices: Which samples; None for all.
        num_workers: Processes that count.

    Returns:
        Shape (B,), in the order of ``indices``.
    """
    chosen = list(range(len(dataset)) if indices is None else indices)
    starts = range(0, len(chosen), _COUNTED_TOGETHER)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=[chosen[start : start + _COUNTED_TOGETHER] for start in starts],
        collate_fn=_sites_of,
        num_workers=num_workers,
        worker_init_fn=keep_working,
        generator=torch.Generator(),  # its own: training draws from the other one
    )
    return np.concatenate([np.zeros(0, np.int64), *(counts.numpy() for counts in loader)])


def _sites_of(prepared: Sequence[PreparedBatch]) -> Tensor:
    return prepared[0].batch.active_set.sites_per_sample()
