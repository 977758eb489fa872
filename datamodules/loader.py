"""EpochLoader: a DataLoader that finds its place in training at its first batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.core.map_plan import CollateWithMaps, MapPlan
from spcnn_lightning.datamodules.batch_dataset import BatchDataset
from spcnn_lightning.datamodules.samplers import EpochBatches
from spcnn_lightning.datamodules.workers import keep_working

Position = Callable[[], tuple[int, int] | None]


class EpochLoader:
    """Yields the batches of one epoch, beginning where training stands.

    Not a `torch.utils.data.DataLoader` but holding one, for two reasons. A trainer that resumes
    creates iterators before it knows where it stands; this one asks for the place only when its
    first batch is fetched. And Lightning replaces the samplers of a DataLoader that it does not
    know, while it leaves other iterables alone.

    Args:
        dataset: Indexed by the keys of ``batch_sampler``.
        batch_sampler: Yields them; its orders are functions of (seed, epoch).
        position: Returns (epoch, batches of it already consumed), or None to yield the epoch that
            ``batch_sampler`` is set to.
        num_workers: Processes that prepare batches; they do not change what is yielded.
        persistent_workers: Keep them for the next epoch.
        pin_memory: Return batches in page-locked memory.
        prefetch_factor: Batches that each worker prepares ahead.
        map_plan: Kernel maps to build with each batch; none if not given.
    """

    def __init__(
        self,
        dataset: BatchDataset,
        batch_sampler: EpochBatches,
        *,
        position: Position | None = None,
        num_workers: int = 0,
        persistent_workers: bool = False,
        pin_memory: bool = False,
        prefetch_factor: int | None = None,
        map_plan: MapPlan | None = None,
    ) -> None:
        self.dataset, self.batch_sampler, self.position = dataset, batch_sampler, position
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=batch_sampler,
            collate_fn=CollateWithMaps(collate, map_plan) if map_plan else collate,
            num_workers=num_workers,
            persistent_workers=persistent_workers and num_workers > 0,
            pin_memory=pin_memory,
            prefetch_factor=prefetch_factor if num_workers > 0 else None,
            worker_init_fn=keep_working,
            # Its own, so that loading never draws from the generator that training draws from.
            generator=torch.Generator(),
        )
        self._saved: dict[str, Any] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to yield where no ``position`` was given."""
        self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        return _LateIterator(self._begin)

    def close(self) -> None:
        """Stop persistent workers."""
        self._loader._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """Return what decides which samples a batch holds."""
        return self.batch_sampler.settings()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Remember the state of a run that is resumed; it must agree in mid-epoch."""
        self._saved = state

    def _begin(self) -> Iterator[Any]:
        place = None if self.position is None else self.position()
        if place is not None:
            epoch, skip = place
            if skip and self._saved is not None:
                _check_agreement(self._saved, self.state_dict(), skip)
            self.batch_sampler.start_at(epoch, skip)
        self._saved = None
        return iter(self._loader)


class _LateIterator:
    """Begins when the first batch is asked for."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self._begin = begin
        self._batches: Iterator[Any] | None = None

    def __iter__(self) -> _LateIterator:
        return self

    def __next__(self) -> Any:
        if self._batches is None:
            self._batches = self._begin()
        return next(self._batches)


def _check_agreement(saved: dict[str, Any], own: dict[str, Any], skip: int) -> None:
    changed = [
        f"{name} was {saved.get(name, 'not set')}, is {own.get(name, 'not set')}"
        for name in sorted({*own, *saved})
        if saved.get(name) != own.get(name)
    ]
    if changed:
        raise DataError(
            f"cannot go on after {skip} batches of an epoch: {'; '.join(changed)}, so other "
            "samples would be skipped than were trained on; resume with the same settings, or from "
            "a checkpoint saved at the end of an epoch"
        )
