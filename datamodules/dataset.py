"""HandwritingDataset: strokes as sparse batches, rasterised a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spcnn_lightning.core.active_set import ActiveSet
from spcnn_lightning.core.sparse_batch import SparseBatch
from spcnn_lightning.datamodules.batch_dataset import BatchDataset, PreparedBatch, split_keys
from spcnn_lightning.datamodules.characters import Characters
from spcnn_lightning.datamodules.randomness import SampleRandom, seeded_order
from spcnn_lightning.datamodules.raster import RasterBatch, Rasteriser
from spcnn_lightning.datamodules.samplers import Key

CALIBRATION_SAMPLES = 10_000
"""Most training samples that the normalising constants are taken from, as in the paper's code."""

_CALIBRATION_BATCH = 256


class HandwritingDataset(BatchDataset):
    """Characters as (SparseBatch, class number), for any DataLoader.

    A sample is asked for by its index, or by a key (epoch, index), which the samplers of
    `spcnn_lightning.datamodules.samplers` yield. Its augmentation is a function of (seed, epoch,
    index) alone: the same in every batch, in any worker, in a resumed run.

    Args:
        strokes: The characters.
        rasteriser: Draws them; with an augmentation for training data, without one otherwise.
        feature_scale: float, shape (C,): what features are divided by; see `largest_features`.
            None: ones.
        seed: For the augmentation.

    Raises:
        ValueError: If ``feature_scale`` has another length or holds a number that is not positive.
    """

    def __init__(
        self,
        strokes: Characters,
        rasteriser: Rasteriser,
        feature_scale: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        channels = rasteriser.encoder.in_channels
        scale = torch.ones(channels) if feature_scale is None else feature_scale.detach().cpu()
        if scale.shape != (channels,) or not bool((scale > 0).all()):
            raise ValueError(
                f"feature_scale is {scale.tolist()}, expected {channels} positive numbers, one for "
                f"each of {', '.join(rasteriser.encoder.channel_names)}"
            )
        self.strokes, self.rasteriser, self.seed = strokes, rasteriser, seed
        self.feature_scale = scale.float()

    def __len__(self) -> int:
        return len(self.strokes)

    def prepare(self, keys: Sequence[int | Key]) -> PreparedBatch:
        """Return the samples of ``keys``, in that order."""
        raster = self.rasterise(keys)
        sites = ActiveSet(
            torch.from_numpy(raster.coords),
            self.rasteriser.spatial_shape,
            len(keys),
            validate=False,
        )
        features = torch.from_numpy(raster.features) / self.feature_scale
        targets = torch.from_numpy(self.strokes.labels[split_keys(keys)[1]])
        return PreparedBatch(SparseBatch(sites, features, validate=False), targets)

    def rasterise(self, keys: Sequence[int | Key]) -> RasterBatch:
        """Return the sites and unscaled features of ``keys``, and how much fell off the field."""
        epochs, indices = split_keys(keys)
        random = SampleRandom(self.seed, epochs, indices)
        return self.rasteriser(self.strokes.select(indices), random)


def largest_features(
    strokes: Characters, rasteriser: Rasteriser, limit: int = CALIBRATION_SAMPLES
) -> Tensor:
    """Return the largest absolute value of each feature: the normalising constants.

    Args:
        strokes: Training characters; ``limit`` of them are looked at, chosen at random.
        rasteriser: Used without its augmentation.
        limit: Number of characters that suffice.

    Returns:
        float32, shape (C,); 1 for a feature that is zero throughout.
    """
    plain = Rasteriser(
        rasteriser.spatial_shape, rasteriser.box, rasteriser.encoder, None, rasteriser.density
    )
    largest = np.zeros(rasteriser.encoder.in_channels, np.float32)
    # Files are sorted by class or writer: the first ones may be all alike.
    chosen = np.sort(seeded_order(len(strokes), 0)[:limit])
    for start in range(0, len(chosen), _CALIBRATION_BATCH):
        some = strokes.select(chosen[start : start + _CALIBRATION_BATCH])
        features = np.abs(plain(some).features)
        largest = np.maximum(largest, features.max(axis=0, initial=0.0))
    return torch.from_numpy(np.where(largest > 0, largest, np.float32(1.0)))
