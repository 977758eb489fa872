"""HandwritingDataModule: pen strokes for LightningModules."""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.utils.data import DataLoader

from spcnn_lightning.core.collate import collate
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules.dataset import HandwritingDataset, largest_features
from spcnn_lightning.datamodules.loader import EpochLoader
from spcnn_lightning.datamodules.parts import StrokeParts
from spcnn_lightning.datamodules.raster import (
    Augmentation,
    Encoder,
    HandwritingAugmentation,
    Octogram,
    Rasteriser,
)
from spcnn_lightning.datamodules.samplers import EpochBatchSampler, EpochSampler
from spcnn_lightning.datamodules.sources import PenDigits8, StrokeSource

Batch = tuple[SparseBatch, Tensor]


class HandwritingDataModule(LightningDataModule):
    """Handwritten characters as batches ``(SparseBatch, class numbers (B,))``.

    Validation data are taken from the training part, by writer where writers are known; the test
    part is the source's official one. What an epoch holds is a function of the seed and the epoch:
    the same for any number of workers, and a run resumed in mid-epoch goes on with the batch after
    the last one that was trained on.

    Args:
        source: Where the characters come from. None: `PenDigits8`, shipped with the package.
        box: The larger of a character's height and width, in sites.
        spatial_shape: Sizes of the field along its axes. None: three boxes each, as in the paper.
        encoder: What a touched site holds. None: `Octogram`.
        augmentation: Distorts training characters. None: `HandwritingAugmentation`.
        augment: False switches augmentation off.
        batch_size: Samples per batch and process. The last batch of an epoch may be short.
        num_workers: Processes that prepare batches; results do not depend on it.
        persistent_workers: Keep these processes between epochs.
        pin_memory: Return batches in page-locked memory, for copies to a GPU.
        validation_fraction: Share of the training characters held out for validation.
        validation_writers: Hold out exactly these writers instead.
        split_seed: Decides which are held out. Not ``seed``: runs that differ in their seed share
            their validation data.
        train_on_all: Train on all training characters, once settings are chosen. There are no
            validation data then.
        seed: For order and augmentation. None: ``torch.initial_seed()`` when the data are set up,
            so that ``seed_everything`` decides; a resumed run keeps the seed it began with.

    Attributes:
        num_classes: Number of classes. Known from the start, as the next three.
        class_names: A name for each.
        in_channels: Number of features of a site, C.
        spatial_shape: Sizes of the field along its axes.

    Raises:
        ValueError: If an argument is out of range.
        DataError: From `prepare_data` or `setup`, if the source's files are missing or damaged, or
            it does not record what an encoder needs.
    """

    def __init__(
        self,
        source: StrokeSource | None = None,
        *,
        box: int = 16,
        spatial_shape: tuple[int, ...] | None = None,
        encoder: Encoder | None = None,
        augmentation: Augmentation | None = None,
        augment: bool = True,
        batch_size: int = 100,
        num_workers: int = 0,
        persistent_workers: bool = True,
        pin_memory: bool = False,
        validation_fraction: float = 0.1,
        validation_writers: list[int] | None = None,
        split_seed: int = 0,
        train_on_all: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (("batch_size", batch_size, 1), ("num_workers", num_workers, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}: it needs at least {least}")
        self.source = PenDigits8() if source is None else source
        self.encoder = Octogram() if encoder is None else encoder
        sizes = (3 * box,) * self.encoder.num_axes if spatial_shape is None else spatial_shape
        self.spatial_shape = tuple(int(size) for size in sizes)
        if augment:
            augmentation = HandwritingAugmentation() if augmentation is None else augmentation
        self.evaluation_rasteriser = Rasteriser(self.spatial_shape, box, self.encoder)
        self.training_rasteriser = Rasteriser(
            self.spatial_shape, box, self.encoder, augmentation if augment else None
        )
        self.batch_size, self.num_workers = batch_size, num_workers
        self.persistent_workers, self.pin_memory = persistent_workers, pin_memory
        self.train_on_all, self.seed = train_on_all, seed
        self._seed_in_use = seed
        self._feature_scale: Tensor | None = None
        self._parts = StrokeParts(
            self.source,
            0.0 if train_on_all else validation_fraction,
            None if train_on_all else validation_writers,
            split_seed,
            check=self.training_rasteriser.check,
        )
        self._loaders: WeakSet[EpochLoader] = WeakSet()

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each class."""
        return tuple(self.source.class_names)

    @property
    def in_channels(self) -> int:
        """Number of features of a site, C."""
        return self.encoder.in_channels

    @property
    def feature_scale(self) -> Tensor:
        """What features are divided by, float32, shape (C,): their largest training values.

        Taken from the first 10,000 characters trained on, without augmentation, when first asked
        for; a checkpoint holds it and brings it back.
        """
        if self._feature_scale is None:
            self._feature_scale = largest_features(self._parts["train"], self.evaluation_rasteriser)
        return self._feature_scale

    def prepare_data(self) -> None:
        """Check that the source's files are present."""
        self.source.check()

    def setup(self, stage: str | None = None) -> None:
        """Read what ``stage`` needs; None reads everything."""
        if self._seed_in_use is None:
            self._seed_in_use = torch.initial_seed()
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
        dataset = HandwritingDataset(
            self._parts["train"], self.training_rasteriser, self.feature_scale, self._run_seed()
        )
        trainer = self.trainer
        # Overfitting means the same few batches again and again.
        shuffle = not getattr(trainer, "overfit_batches", 0)
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
        return self._loader(self._evaluation_data("val"), shuffle=False, training=False)

    def test_dataloader(self) -> EpochLoader:
        """Return the batches of the official test part."""
        return self._loader(self._evaluation_data("test"), shuffle=False, training=False)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the batches of the test part, as a DataLoader.

        Lightning adds its own sampler, from which prediction writers learn the sample numbers.
        """
        return DataLoader(
            self._evaluation_data("test"),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            collate_fn=collate,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the normalising constants and the seed, for the checkpoint."""
        return {
            "feature_scale": self.feature_scale.clone(),
            "channel_names": list(self.encoder.channel_names),
            "box": self.evaluation_rasteriser.box,
            "seed": self._run_seed(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the constants of a checkpoint, and its seed unless one was given.

        Raises:
            DataError: If the checkpoint was trained on other features or another size.
        """
        names = list(self.encoder.channel_names)
        if state_dict["channel_names"] != names:
            raise DataError(
                f"the checkpoint was trained on the features {state_dict['channel_names']}, the "
                f"encoder of this data module gives {names}: use the encoder of the training run"
            )
        box = self.evaluation_rasteriser.box
        if state_dict.get("box", box) != box:
            raise DataError(
                f"the checkpoint was trained on characters that fill {state_dict['box']} sites, "
                f"this data module has box={box}: use the box of the training run"
            )
        self._feature_scale = state_dict["feature_scale"].clone()
        if self.seed is None:
            self._seed_in_use = state_dict["seed"]

    def _evaluation_data(self, name: str) -> HandwritingDataset:
        return HandwritingDataset(self._parts[name], self.evaluation_rasteriser, self.feature_scale)

    def _run_seed(self) -> int:
        if self._seed_in_use is None:
            self._seed_in_use = torch.initial_seed()
        return self._seed_in_use

    def _loader(self, dataset: HandwritingDataset, shuffle: bool, training: bool) -> EpochLoader:
        trainer = self.trainer
        sampler = EpochSampler(
            len(dataset),
            self._run_seed(),
            shuffle=shuffle,
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            pad=training,
        )
        loader = EpochLoader(
            dataset,
            EpochBatchSampler(sampler, self.batch_size),
            position=self._position if training else None,
            num_workers=self.num_workers,
            persistent_workers=self.persistent_workers,
            pin_memory=self.pin_memory,
        )
        self._loaders.add(loader)
        return loader

    def _position(self) -> tuple[int, int] | None:
        """Return the trainer's epoch and how many of its batches were consumed."""
        trainer = self.trainer
        if trainer is None or trainer.state.fn != TrainerFn.FITTING:
            return None
        return trainer.current_epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready
