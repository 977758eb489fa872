"""SparseDataModule: what every data module of this project does alike."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import zip_longest
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import WeakSet

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.core.map_plan import MapPlan
from spcnn_lightning.datamodules.batch_dataset import BatchDataset
from spcnn_lightning.datamodules.characters import LabelledSamples
from spcnn_lightning.datamodules.loader import EpochLoader
from spcnn_lightning.datamodules.parts import Parts, Source, require_words
from spcnn_lightning.datamodules.samplers import EpochBatches, EpochBatchSampler, EpochSampler
from spcnn_lightning.datamodules.site_batches import SiteBatchSampler, count_sites
from spcnn_lightning.datamodules.workers import keep_working

T = TypeVar("T")


class SiteCounts(NamedTuple):
    """How many active sites training samples have.

    Attributes:
        counts: int64, shape (B,).
        digest: Of the samples that were counted.
    """

    counts: Tensor
    digest: str


class SparseDataModule(LightningDataModule, ABC, Generic[T]):
    """Batches ``(SparseBatch, class numbers (B,))`` of a source with a training and a test part.

    Validation data are taken from the training part. What an epoch holds is a function of the seed
    and the epoch: the same for any number of workers, and a run resumed in mid-epoch goes on with
    the batch after the last one that was trained on.

    A sub-class says what a data set of the samples is, for training (`training_data`) and otherwise
    (`evaluation_data`), has a property ``in_channels`` and sets ``spatial_shape``.

    Args:
        source: Where the samples come from.
        read: Returns the "train" or the "test" part of it.
        check: Called with the first sample and the name of the source; raises `DataError` if it
            cannot be used.
        batch_size: Samples per batch and process.
        sites_per_batch: Make training batches of at most so many sites each, in place of equally
            many samples; see `SiteBatchSampler`.
        num_workers: Processes that prepare batches.
        persistent_workers: Keep these processes between epochs.
        pin_memory: Return batches in page-locked memory.
        validation_fraction: Share of the training samples held out for validation.
        validation_writers: Hold out exactly these writers instead.
        split_seed: Decides which are held out.
        train_on_all: Hold nothing out.
        seed: For order and augmentation. None: ``torch.initial_seed()`` at set-up.

    Raises:
        ValueError: If ``batch_size`` or ``num_workers`` is out of range.
    """

    spatial_shape: tuple[int, ...]
    """Sizes of the field along its axes."""
    map_plan: MapPlan | None = None
    """Kernel maps that are built with each batch; the callback `KernelMapsAhead` sets it."""

    def __init__(
        self,
        source: Source,
        read: Callable[[str], LabelledSamples[T]],
        check: Callable[[T, str], None] | None,
        *,
        batch_size: int,
        sites_per_batch: int | None,
        num_workers: int,
        persistent_workers: bool,
        pin_memory: bool,
        validation_fraction: float,
        validation_writers: list[int] | None,
        split_seed: int,
        train_on_all: bool,
        seed: int | None,
    ) -> None:
        super().__init__()
        require_words(source, "class_names")
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}: it needs at least {least}")
        self.batch_size, self.sites_per_batch = batch_size, sites_per_batch
        self.num_workers = num_workers
        self.persistent_workers, self.pin_memory = persistent_workers, pin_memory
        self.train_on_all, self.seed = train_on_all, seed
        self._seed_in_use = seed
        self._parts = Parts(
            source,
            read,
            0.0 if train_on_all else validation_fraction,
            None if train_on_all else validation_writers,
            split_seed,
            check,
        )
        self._split = {
            "validation_fraction": validation_fraction,
            "validation_writers": validation_writers,
            "split_seed": split_seed,
            "train_on_all": train_on_all,
        }
        self._site_counts: SiteCounts | None = None
        self._loaders: WeakSet[EpochLoader] = WeakSet()

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Number of features of a site, C."""

    @abstractmethod
    def training_data(self, seed: int) -> BatchDataset:
        """Return the training part, augmented by random numbers of ``seed``."""

    @abstractmethod
    def evaluation_data(self, name: str) -> BatchDataset:
        """Return the part "train", "val" or "test", as it is."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self._parts.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class."""
        return tuple(self._parts.source.class_names)

    def settings(self) -> dict[str, Any]:
        """Return, in plain types, what would make other features of the same sample."""
        return {"spatial_shape": list(self.spatial_shape)}

    def __str__(self) -> str:
        """Say what is known without reading anything; Lightning's own would draw every batch."""
        sizes = ", ".join(f"{name}: {size:,} samples" for name, size in self._parts.sizes.items())
        return (
            f"{type(self).__name__}: {self.num_classes:,} classes of "
            f"{type(self._parts.source).__name__}, features per site: {self.in_channels}, "
            f"field {self.spatial_shape}{'; ' if sizes else ''}{sizes}"
        )

    def prepare_data(self) -> None:
        """Check that the source's files are present."""
        self._parts.source.check()

    def setup(self, stage: str | None = None) -> None:
        """Read what ``stage`` needs; None reads everything."""
        self._run_seed()
        if stage in (None, "fit", "validate"):
            self._parts["train"]
        if stage in (None, "test", "predict"):
            self._parts["test"]

    def teardown(self, stage: str | None = None) -> None:
        """Stop the workers."""
        for loader in self._loaders:
            loader.close()
        self._loaders.clear()

    def train_dataloader(self) -> EpochLoader:
        """Return the training batches, augmented, in the order of the trainer's epoch."""
        dataset = self.training_data(self._run_seed())
        # Overfitting means the same few batches again and again.
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        return self._loader(dataset, shuffle=shuffle, training=True)

    def val_dataloader(self) -> EpochLoader | list[EpochLoader]:
        """Return the validation batches; an empty list if nothing is held out.

        Raises:
            DataError: If validation is all that was asked for, and nothing is held out.
        """
        if len(self._parts["val"]) == 0:
            if self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING:
                raise DataError(
                    "there is nothing to validate on: train_on_all, or a validation_fraction of 0, "
                    "leaves no validation data; test runs on the official test part"
                )
            return []
        return self._loader(self.evaluation_data("val"), shuffle=False, training=False)

    def test_dataloader(self) -> EpochLoader:
        """Return the batches of the official test part."""
        return self._loader(self.evaluation_data("test"), shuffle=False, training=False)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the test part, as a DataLoader.

        Lightning adds its own sampler, from which prediction writers learn the sample numbers.
        """
        return DataLoader(
            self.evaluation_data("test"),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            collate_fn=collate,
            worker_init_fn=keep_working,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return seed, classes, `settings`, and what was counted, for the checkpoint."""
        counted = self._site_counts
        return {
            "seed": self._run_seed(),
            "class_names": list(self.class_names),
            "split": dict(self._split),
            "site_counts": None if counted is None else counted._asdict(),
            **self.settings(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the seed of a checkpoint, unless one was given.

        Raises:
            DataError: If the checkpoint was trained on other classes, or in another order, or with
                other `settings`.
        """
        for name, value in self.settings().items():
            if state_dict.get(name, value) != value:  # older checkpoints do not say them all
                raise DataError(
                    f"the checkpoint was trained with {name} {state_dict[name]}, this data module "
                    f"has {value}: use the {name} of the training run"
                )
        own = list(self.class_names)
        trained = state_dict.get("class_names", own)  # older checkpoints do not say
        if trained != own:
            pairs = enumerate(zip_longest(trained, own))
            number, (theirs, ours) = next((n, pair) for n, pair in pairs if len({*pair}) > 1)
            raise DataError(
                f"the checkpoint was trained on {len(trained)} classes, the source has {len(own)}; "
                f"class {number} is {theirs!r} there and {ours!r} here: use the classes of the "
                "training run, in their order"
            )
        if self.seed is None:
            self._seed_in_use = state_dict["seed"]
        split = state_dict.get("split", self._split)
        fits = self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING
        if fits and split != self._split:
            rank_zero_warn(
                f"the run that is resumed held validation samples out by {split}, this one does by "
                f"{self._split}: samples that it trained on may be among the validation data now"
            )
        if state_dict.get("site_counts") is not None:
            self._site_counts = SiteCounts(**state_dict["site_counts"])

    def _run_seed(self) -> int:
        if self._seed_in_use is None:
            seed = torch.initial_seed()
            # Processes that nobody seeded have different ones, and must agree on the order.
            trainer = self.trainer
            self._seed_in_use = seed if trainer is None else trainer.strategy.broadcast(seed)
        return self._seed_in_use

    def _loader(self, dataset: BatchDataset, shuffle: bool, training: bool) -> EpochLoader:
        loader = EpochLoader(
            dataset,
            self._batches(len(dataset), shuffle, training),
            position=self._position if training else None,
            num_workers=self.num_workers,
            persistent_workers=self.persistent_workers,
            pin_memory=self.pin_memory,
            map_plan=self.map_plan,
        )
        self._loaders.add(loader)
        return loader

    def _batches(self, num_samples: int, shuffle: bool, training: bool) -> EpochBatches:
        seed, trainer = self._run_seed(), self.trainer
        rank = 0 if trainer is None else trainer.global_rank
        world_size = 1 if trainer is None else trainer.world_size
        if training and self.sites_per_batch is not None:
            try:
                return SiteBatchSampler(
                    self._count_sites(rank, world_size),
                    self.sites_per_batch,
                    seed,
                    shuffle=shuffle,
                    rank=rank,
                    world_size=world_size,
                )
            except ValueError as error:
                raise DataError(str(error)) from error
        sampler = EpochSampler(
            num_samples, seed, shuffle=shuffle, rank=rank, world_size=world_size, pad=training
        )
        return EpochBatchSampler(sampler, self.batch_size)

    def _count_sites(self, rank: int, world_size: int) -> NDArray[np.int64]:
        """Return the sites of each training sample: of the checkpoint, if they were counted then.

        Else every process counts a part, in its workers.
        """
        counted, digest = self._site_counts, _digest(self._parts.source, self._parts["train"])
        if counted is None or counted.digest != digest:
            samples = self.evaluation_data("train")
            mine = range(rank, len(samples), world_size)
            counts = torch.zeros(len(samples), dtype=torch.int64)
            counts[mine.start : mine.stop : mine.step] = torch.from_numpy(
                count_sites(samples, mine, self.num_workers)
            )
            if self.trainer is not None:
                strategy = self.trainer.strategy
                counts = strategy.reduce(counts.to(strategy.root_device), reduce_op="sum")
            counted = self._site_counts = SiteCounts(
                counts.cpu(), _digest(self._parts.source, self._parts["train"])
            )
        return counted.counts.numpy()

    def _position(self) -> tuple[int, int] | None:
        """Return the trainer's epoch and how many of its batches were consumed."""
        trainer = self.trainer
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return None
        return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready


def _digest(source: object, samples: LabelledSamples[Any]) -> str:
    """Return another text for another source, other samples of it, or another order."""
    digest = hashlib.sha256(repr(_described(source)).encode())
    digest.update(np.ascontiguousarray(samples.labels).tobytes())
    digest.update(np.ascontiguousarray(getattr(samples, "indices", ())).tobytes())
    return digest.hexdigest()


def _described(source: object) -> tuple[Any, ...]:
    """Return class and arguments of a source, and of a source in it."""
    inner = [_described(value) for value in vars(source).values() if hasattr(value, "class_names")]
    return type(source).__qualname__, sorted(plain_arguments(source).items()), inner


def plain_arguments(part: object) -> dict[str, Any]:
    """Return the public attributes that are numbers, words or None; of arrays a hash."""
    found: dict[str, Any] = {}
    for name, value in getattr(part, "__dict__", {}).items():
        if name.startswith("_"):  # what it keeps for itself
            continue
        if value is None or isinstance(value, (bool, int, float, str)):
            found[name] = value
        elif isinstance(value, np.ndarray):
            found[name] = hashlib.sha256(repr(value.shape).encode() + value.tobytes()).hexdigest()
    return found
