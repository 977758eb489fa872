"""Samplers whose order is a pure function of (seed, epoch) and that can begin in mid-epoch.

They yield keys ``(epoch, index)``. So the epoch reaches the data set, also in workers that live
longer than one epoch, and with it the augmentation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from spcnn_lightning.datamodules.randomness import seeded_order

Key = tuple[int, int]
"""(epoch, index): a sample as it looks in one epoch."""

ORDER_STREAM = 0x6F72646572  # keeps the order independent of the augmentation's numbers


class EpochSampler(Sampler[Key]):
    """Yields the keys of one epoch, the same ones for the same seed and epoch.

    Args:
        num_samples: Size of the data set.
        seed: Decides the orders.
        shuffle: False yields the samples in their own order.
        rank: Number of this process.
        world_size: Number of processes; each takes every ``world_size``-th sample of the order.
        pad: Repeat the first samples of the order so that all processes take equally many, as
            training needs. False, for evaluation, repeats none.

    Raises:
        ValueError: If ``rank`` is not in 0 .. world_size - 1.
    """

    def __init__(
        self,
        num_samples: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        pad: bool = True,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(
                f"rank {rank} of {world_size} processes: ranks are 0 to {world_size - 1}"
            )
        self.num_samples, self.seed, self.shuffle = num_samples, seed, shuffle
        self.rank, self.world_size, self.pad = rank, world_size, pad
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iteration yields from now on."""
        self.epoch = epoch

    def indices(self, epoch: int) -> NDArray[np.int64]:
        """Return the samples of an epoch for this process, in order."""
        order = np.arange(self.num_samples)
        if self.shuffle:
            order = seeded_order(self.num_samples, self.seed, ORDER_STREAM, epoch)
        if self.pad:
            order = np.resize(order, len(self) * self.world_size)
        return order[self.rank :: self.world_size]

    def __iter__(self) -> Iterator[Key]:
        return iter(_keys(self.epoch, self.indices(self.epoch)))

    def __len__(self) -> int:
        missing = self.world_size - 1 if self.pad else self.world_size - 1 - self.rank
        return (self.num_samples + missing) // self.world_size

    @property
    def largest_share(self) -> int:
        """The number of samples of the process that has most of them."""
        return (self.num_samples + self.world_size - 1) // self.world_size

    @property
    def smallest_share(self) -> int:
        """The number of samples of the process that has fewest of them."""
        return self.largest_share if self.pad else self.num_samples // self.world_size


class EpochBatches(Sampler[list[Key]], ABC):
    """Batches of one epoch; a resumed epoch begins after the batches already consumed.

    It counts nothing while iterating, for workers run ahead of training: whoever trains knows how
    many batches were consumed and says so in `start_at`.

    All processes yield equally many batches, for in each of them they may wait for one another.

    Attributes:
        epoch: The epoch that iteration yields; `set_epoch` chooses it.
    """

    epoch: int
    _resumed = (0, 0)

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iteration yields from now on."""

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """Return the samples of each batch of an epoch for this process, in order."""

    @abstractmethod
    def settings(self) -> dict[str, int]:
        """Return what decides, besides the epoch, which samples a batch holds."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, whatever is left out at its start."""

    def start_at(self, epoch: int, skip: int = 0) -> None:
        """Choose the epoch, of which iteration leaves out the first ``skip`` batches.

        Other epochs are yielded whole.
        """
        self.set_epoch(epoch)
        self._resumed = (epoch, skip)

    def __iter__(self) -> Iterator[list[Key]]:
        # Not a generator: the epoch counts at the moment of iter(), not of the first next().
        epoch = self.epoch
        skip = self._resumed[1] if epoch == self._resumed[0] else 0
        # Keys are made batch by batch: those of a million samples would take 100 MB.
        return (_keys(epoch, indices) for indices in self.batches(epoch)[skip:])


class EpochBatchSampler(EpochBatches):
    """Batches of equally many samples; see `EpochBatches`.

    A process that has fewer samples than the others and could fill fewer batches yields smaller
    ones, and an empty one only if it has fewer samples than there are batches.

    Args:
        sampler: Yields the keys.
        batch_size: Samples per batch and process.
        drop_last: Leave out a last batch that is not full.
    """

    def __init__(self, sampler: EpochSampler, batch_size: int, drop_last: bool = False) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give at least 1")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    @property
    def epoch(self) -> int:  # type: ignore[override]
        """The epoch that iteration yields."""
        return self.sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that iteration yields from now on."""
        self.sampler.set_epoch(epoch)

    def batches(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        """Return the samples of each batch of an epoch for this process, in order."""
        indices, count = self.sampler.indices(epoch), len(self)
        bounds = np.arange(count + 1) * self.batch_size
        if len(indices) <= bounds[-1] - self.batch_size:
            bounds = np.arange(count + 1) * len(indices) // count
        return [indices[low:high] for low, high in zip(bounds, bounds[1:], strict=False)]

    def settings(self) -> dict[str, int]:
        """Return what decides, besides the epoch, which samples a batch holds."""
        sampler = self.sampler
        return {
            "num_samples": sampler.num_samples,
            "batch_size": self.batch_size,
            "world_size": sampler.world_size,
            "seed": sampler.seed,
        }

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, whatever is left out at its start."""
        if self.drop_last:
            return self.sampler.smallest_share // self.batch_size
        return (self.sampler.largest_share + self.batch_size - 1) // self.batch_size


def _keys(epoch: int, indices: NDArray[np.int64]) -> list[Key]:
    return [(epoch, index) for index in indices.tolist()]
