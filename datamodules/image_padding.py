"""ImagePaddingDataModule: pictures for LightningModules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.characters import LabelledSamples
from spcnn_lightning.datamodules.padding import (
    Padder,
    PictureAugmentation,
    Placement,
    Scaling,
    Sparsifier,
)
from spcnn_lightning.datamodules.padding.picture_batch import Picture
from spcnn_lightning.datamodules.parts import require_words
from spcnn_lightning.datamodules.picture_dataset import PictureDataset
from spcnn_lightning.datamodules.pictures import Digits, PictureSource
from spcnn_lightning.datamodules.sparse_datamodule import SparseDataModule, plain_arguments


class ImagePaddingDataModule(SparseDataModule[list[Picture]]):
    """Pictures in fields much larger than they are, as ``(SparseBatch, class numbers (B,))``.

    So valid convolutions see a picture's borders as often as its middle, and sparsity pays for the
    padding. Pictures keep their size, and sizes may differ within a batch.

    Validation data are taken from the training part, by writer where writers are known; the test
    part is the source's official one. What an epoch holds is a function of the seed and the epoch:
    the same for any number of workers, and a run resumed in mid-epoch goes on with the batch after
    the last one that was trained on.

    Args:
        source: Where the pictures come from. None: `Digits`, which needs no file.
        box: The usual size of a picture, in sites; it sizes the field and nothing else.
        spatial_shape: Rows and columns of the field. None: three boxes each, as in the paper.
        background: What becomes zero, of 0..255, for all channels or for each. None: the source's.
        scale: What one stands for, of 0..255. None: the farthest value from the background.
        threshold: A site is active if a channel is farther from zero than this; all others are
            exactly zero.
        placement: "centre" as in the paper, "corner", "random", or the row and column of a
            picture's first pixel.
        sparsifier: Makes background where there is none: `Threshold`, `Edges`,
            `BackgroundSubtraction`. None: pictures as they are.
        augmentation: Distorts training pictures. None: `PictureAugmentation`.
        augment: False switches augmentation off.
        mask_feature: For a source whose pictures have masks, such as `Regions`: the mask is a
            feature of each site too.
        batch_size: Samples per batch and process. The last batch of an epoch may be short.
        sites_per_batch: Fill training batches with pictures up to so many active sites per
            process, in place of ``batch_size`` of them: equal work for all processes, bounded
            memory. Sites are counted once at the start, without augmentation. At least two of the
            largest.
        num_workers: Processes that prepare batches; results do not depend on it.
        persistent_workers: Keep these processes between epochs.
        pin_memory: Return batches in page-locked memory, for copies to a GPU.
        validation_fraction: Share of the training pictures held out for validation.
        validation_writers: Hold out exactly these writers instead.
        split_seed: Decides which are held out. Not ``seed``: runs that differ in their seed share
            their validation data.
        train_on_all: Train on all training pictures, once settings are chosen. There are no
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
        DataError: From `prepare_data` or `setup`, if the source's files are missing or damaged;
            from a loader, if a picture is larger than the field.
    """

    def __init__(
        self,
        source: PictureSource | None = None,
        *,
        box: int = 32,
        spatial_shape: tuple[int, ...] | None = None,
        background: float | tuple[float, ...] | None = None,
        scale: float | None = None,
        threshold: float = 0.02,
        placement: Placement = "centre",
        sparsifier: Sparsifier | None = None,
        augmentation: PictureAugmentation | None = None,
        augment: bool = True,
        mask_feature: bool = False,
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
        self.source = Digits() if source is None else source
        sizes = (3 * box, 3 * box) if spatial_shape is None else spatial_shape
        self.spatial_shape = tuple(int(size) for size in sizes)
        if not isinstance(self.source, PictureSource):
            raise DataError(
                f"{type(self.source).__name__} is no source of pictures: give one, or for scenes "
                "Regions(scenes)"
            )
        for name, value, kind in (
            ("sparsifier", sparsifier, Sparsifier),
            ("augmentation", augmentation, PictureAugmentation),
        ):
            if value is not None and not isinstance(value, kind):
                raise ValueError(
                    f"{name} is {value!r}: give a {kind.__name__}, or None"
                    + ("; augment=False switches it off" if name == "augmentation" else "")
                )
        require_words(self.source, "channels", "background")
        own = self.source.background
        if isinstance(background, (int, float)) and isinstance(own, tuple) and len(set(own)) > 1:
            raise ValueError(
                f"background is {background}, but the channels of {type(self.source).__name__} "
                f"have {own}: give one number for each channel"
            )
        scaling = Scaling(own if background is None else background, scale)
        masked = self.source.masked
        scaling.check(self.source.channels - masked)
        self.evaluation_padder = Padder(
            self.spatial_shape,
            scaling,
            threshold,
            placement,
            sparsifier,
            masked=masked,
            mask_feature=mask_feature,
        )
        if augment:
            augmentation = PictureAugmentation() if augmentation is None else augmentation
        self.training_padder = replace(
            self.evaluation_padder, augmentation=augmentation if augment else None
        )
        super().__init__(
            self.source,
            self._read,
            self._check,
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
        return self.evaluation_padder.out_channels(self.source.channels)

    def training_data(self, seed: int) -> PictureDataset:
        """Return the training pictures, augmented by random numbers of ``seed``."""
        return PictureDataset(self._parts["train"], self.training_padder, seed)

    def evaluation_data(self, name: str) -> PictureDataset:
        """Return the part "train", "val" or "test", as it is."""
        return PictureDataset(self._parts[name], self.evaluation_padder)

    def settings(self) -> dict[str, Any]:
        """Return the field, and how values are mapped."""
        padder = self.evaluation_padder
        return {
            **super().settings(),
            "background": np.atleast_1d(padder.scaling.background).tolist(),
            "scale": padder.scaling.scale,
            "threshold": padder.threshold,
            "masked": padder.masked,
            "sparsifier": type(padder.sparsifier).__name__,
            "sparsifier's arguments": plain_arguments(padder.sparsifier),
            "placement": str(padder.placement),
        }

    def _read(self, part: str) -> LabelledSamples[list[Picture]]:
        return self.source.train() if part == "train" else self.source.test()

    def _check(self, pictures: list[Picture], source: str) -> None:
        found, said = pictures[0].shape[-1], self.source.channels
        if found != said:
            raise DataError(f"{source} gave a picture of {found} channels, but says {said}")
