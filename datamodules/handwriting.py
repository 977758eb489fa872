"""HandwritingDataModule: pen strokes for LightningModules."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules.dataset import HandwritingDataset, largest_features
from spcnn_lightning.datamodules.raster import (
    Augmentation,
    Encoder,
    HandwritingAugmentation,
    Octogram,
    Rasteriser,
)
from spcnn_lightning.datamodules.sources import PenDigits8, StrokeSource
from spcnn_lightning.datamodules.sparse_datamodule import SparseDataModule, plain_arguments
from spcnn_lightning.datamodules.strokes import StrokeSet

Batch = tuple[SparseBatch, Tensor]


class HandwritingDataModule(SparseDataModule[StrokeSet]):
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
        sites_per_batch: Fill training batches with characters up to so many active sites per
            process, in place of ``batch_size`` of them: equal work for all processes, bounded
            memory. Sites are counted once at the start, without augmentation. At least two of the
            largest.
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
        sites_per_batch: int | None = None,
        num_workers: int = 0,
        persistent_workers: bool = True,
        pin_memory: bool = False,
        validation_fraction: float = 0.1,
        validation_writers: list[int] | None = None,
        split_seed: int = 0,
        train_on_all: bool = False,
        seed: int | None = None,
    ) -> None:
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
        self._feature_scale: Tensor | None = None
        super().__init__(
            self.source,
            self.source.characters,
            self.training_rasteriser.check,
            batch_size=batch_size,
            sites_per_batch=sites_per_batch,
            num_workers=num_workers,
            persistent_workers=persistent_workers,
            pin_memory=pin_memory,
            validation_fraction=validation_fraction,
            validation_writers=validation_writers,
            split_seed=split_seed,
            train_on_all=train_on_all,
            seed=seed,
        )

    @property
    def in_channels(self) -> int:
        """Number of features of a site, C."""
        return self.encoder.in_channels

    @property
    def feature_scale(self) -> Tensor:
        """What features are divided by, float32, shape (C,): their largest training values.

        Taken from 10,000 of the characters trained on, without augmentation, when first asked for;
        a checkpoint holds it and brings it back.
        """
        if self._feature_scale is None:
            self._feature_scale = largest_features(self._parts["train"], self.evaluation_rasteriser)
        return self._feature_scale

    def training_data(self, seed: int) -> HandwritingDataset:
        """Return the training characters, augmented by random numbers of ``seed``."""
        return HandwritingDataset(
            self._parts["train"], self.training_rasteriser, self.feature_scale, seed
        )

    def evaluation_data(self, name: str) -> HandwritingDataset:
        """Return the part "train", "val" or "test", as it is."""
        return HandwritingDataset(self._parts[name], self.evaluation_rasteriser, self.feature_scale)

    def state_dict(self) -> dict[str, Any]:
        """Return the normalising constants and what `SparseDataModule` keeps."""
        return {
            "feature_scale": self.feature_scale.clone(),
            **super().state_dict(),
        }

    def settings(self) -> dict[str, Any]:
        """Return the field, the features, the encoders with their arguments, and the box."""
        encoders = [
            {"encoder": type(part).__name__, **plain_arguments(part)} for part in self.encoder.parts
        ]
        return {
            **super().settings(),
            "encoders": encoders,
            "channel_names": list(self.encoder.channel_names),
            "box": self.evaluation_rasteriser.box,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the constants of a checkpoint, and its seed unless one was given.

        Raises:
            DataError: If the checkpoint was trained on other features or another size.
        """
        super().load_state_dict(state_dict)
        self._feature_scale = state_dict["feature_scale"].clone()
