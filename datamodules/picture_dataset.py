"""PictureDataset: pictures as sparse batches, padded a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules.batch_dataset import BatchDataset, PreparedBatch, split_keys
from spcnn_lightning.datamodules.characters import LabelledSamples
from spcnn_lightning.datamodules.padding import PaddedBatch, Padder
from spcnn_lightning.datamodules.padding.picture_batch import Picture
from spcnn_lightning.datamodules.padding.placement import PictureTooLargeError
from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.samplers import Key


class PictureDataset(BatchDataset):
    """Pictures as (SparseBatch, class number), for any DataLoader.

    A sample is asked for by its index, or by a key (epoch, index), which the samplers of
    `spcnn_lightning.datamodules.samplers` yield. Its augmentation is a function of (seed, epoch,
    index) alone: the same in every batch, in any worker, in a resumed run.

    Args:
        pictures: The pictures.
        padder: Places them; with an augmentation for training data, without one otherwise.
        seed: For the augmentation.
    """

    def __init__(
        self, pictures: LabelledSamples[list[Picture]], padder: Padder, seed: int = 0
    ) -> None:
        self.pictures, self.padder, self.seed = pictures, padder, seed

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def sample_names(self) -> Sequence[str] | None:
        """What each picture is called, a file say; None if they have no names."""
        names: Sequence[str] | None = getattr(self.pictures, "names", None)
        return names

    def prepare(self, keys: Sequence[int | Key]) -> PreparedBatch:
        """Return the samples of ``keys``, in that order."""
        padded = self.pad(keys)
        shape = self.padder.spatial_shape
        sites = ActiveSet(padded.coords, shape, len(keys), validate=False)
        targets = torch.from_numpy(self.pictures.labels[split_keys(keys)[1]])
        return PreparedBatch(SparseBatch(sites, padded.features, validate=False), targets)

    def pad(self, keys: Sequence[int | Key]) -> PaddedBatch:
        """Return the sites and features of ``keys``, and how much fell off the field."""
        epochs, indices = split_keys(keys)
        random = SampleRandom(self.seed, epochs, indices)
        try:
            return self.padder(self.pictures.select(indices), random)
        except PictureTooLargeError as error:
            if self.sample_names is None:
                raise
            raise DataError(f"{self.sample_names[error.number]}: {error}") from error
