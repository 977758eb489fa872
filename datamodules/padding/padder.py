"""Padder: pictures as active sites of a field that is much larger than they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcnn_lightning.datamodules.padding.masks import cut_out
from spcnn_lightning.datamodules.padding.picture_augmentation import PictureAugmentation
from spcnn_lightning.datamodules.padding.picture_batch import (
    Picture,
    PictureBatch,
    Scaling,
    check_pictures,
)
from spcnn_lightning.datamodules.padding.placement import Placement, check_placement, first_sites
from spcnn_lightning.datamodules.padding.sparsifier import Sparsifier
from spcnn_lightning.datamodules.padding.warp import warp
from spcnn_lightning.datamodules.randomness import SampleRandom

_PLACEMENT_PART = 3  # keeps places independent of the augmentation's numbers


@dataclass(frozen=True, eq=False)
class PaddedBatch:
    """The sites and features of B pictures.

    Args:
        coords: int32, shape (N, 3): sample, row, column, sorted in this order.
        features: float32, shape (N, C).
        dropped: int64, shape (B,): pixels, active or not, that fell outside the field.
    """

    coords: Tensor
    features: Tensor
    dropped: Tensor


@dataclass(frozen=True)
class Padder:
    """Places pictures in a field, whose other sites hold zero, the background.

    The steps: map values so that the background is zero, make sparser, distort, choose what is
    active, place in the field, shift colours.

    Args:
        spatial_shape: Rows and columns of the field.
        scaling: Which value becomes zero, and which one.
        threshold: A pixel is active if a channel is farther from zero than this; all others are
            exactly zero.
        placement: Where pictures stand.
        sparsifier: Makes background where there is none; None for pictures as they are.
        augmentation: Distorts training pictures; None for none.
        masked: The last channel of a picture is a mask, 255 inside and 0 outside, and no feature.
            Outside is background, whatever the pixels hold. The mask decides what is active: a
            pixel of which more than ``threshold`` lies inside, even if its features are zero.
        mask_feature: The mask is the last feature too. Without it, a network whose layers give
            inactive sites what they give zeros cannot tell an inner background from the outer.

    Raises:
        ValueError: If an argument is out of range.
    """

    spatial_shape: tuple[int, ...]
    scaling: Scaling = field(default_factory=Scaling)
    threshold: float = 0.02
    placement: Placement = "centre"
    sparsifier: Sparsifier | None = None
    augmentation: PictureAugmentation | None = None
    masked: bool = False
    mask_feature: bool = False

    def __post_init__(self) -> None:
        if len(self.spatial_shape) != 2 or min(self.spatial_shape) < 1:
            raise ValueError(
                f"spatial_shape is {self.spatial_shape}: give the rows and columns of a field"
            )
        if not 0 <= self.threshold < math.inf:
            raise ValueError(f"threshold is {self.threshold}: give a finite one of at least 0")
        farthest = self.scaling.farthest
        if self.sparsifier is not None and not (farthest := self.sparsifier.farthest(self.scaling)):
            raise ValueError(
                f"the sparsifier, {type(self.sparsifier).__name__}, would leave nothing of any "
                f"picture, whose values end at {self.scaling.farthest:g}: give a smaller least"
            )
        if self.threshold >= (farthest := 1.0 if self.masked else farthest):
            raise ValueError(
                f"threshold is {self.threshold}, but values end at {farthest:g} from the "
                "background, so that no site would be active: give less"
            )
        if self.mask_feature and not self.masked:
            raise ValueError("mask_feature is True: give pictures with a mask, or leave it out")
        check_placement(self.placement, self.spatial_shape)

    def out_channels(self, channels: int) -> int:
        """Return the number of features of a site, for pictures of ``channels`` channels."""
        own = channels - self.masked
        own = own if self.sparsifier is None else self.sparsifier.out_channels(own)
        return own + self.mask_feature

    def __call__(
        self,
        pictures: Sequence[Picture],
        random: SampleRandom,
        device: torch.device | str = "cpu",
    ) -> PaddedBatch:
        """Return the sites and features of the pictures, in their order.

        Args:
            pictures: B of them, uint8, shape (H, W, C), with a mask (H, W, C + 1); sizes may
                differ.
            random: Their random numbers, for augmentation and random places.
            device: Where to compute; pixels are moved there first.

        Raises:
            DataError: If a picture is larger than the field, or is no uint8 picture.
        """
        groups = _of_similar_size(pictures)
        if len(groups) < 2:
            return self._pad(pictures, random, device)
        check_pictures(pictures)
        padded = [
            self._pad([pictures[place] for place in group], random.of(group), device)
            for group in groups
        ]
        return _joined(padded, groups, device)

    def _pad(
        self, pictures: Sequence[Picture], random: SampleRandom, device: torch.device | str
    ) -> PaddedBatch:
        """Pad pictures together, each of which takes as much time and memory as the largest."""
        batch = self._read(pictures, device)
        first = first_sites(
            self.placement, batch.sizes, self.spatial_shape, random.part(_PLACEMENT_PART)
        )
        augmentation = self.augmentation
        if augmentation is None:
            pixels = warp(batch, first, self.spatial_shape)
        else:
            pixels = augmentation.distort(batch, first, self.spatial_shape, random)
        features = deciding = pixels.values
        if self.masked:
            features, deciding = features[:-1], features[-1:]
        active = (deciding.abs() > self.threshold).any(0).nonzero()[:, 0]
        coords = pixels.coords.index_select(0, active)
        values = features.index_select(1, active).T.contiguous()
        if augmentation is not None:
            values = augmentation.recolour(values, coords, self.spatial_shape, random)
        if self.mask_feature:
            values = torch.cat([values, deciding.index_select(1, active).T], 1)
        return PaddedBatch(coords, values, pixels.dropped)

    def _read(self, pictures: Sequence[Picture], device: torch.device | str) -> PictureBatch:
        """Return the pictures, sparser; masks become the last channel."""
        if self.masked:
            return cut_out(pictures, self.scaling, self.sparsifier, device)
        batch = PictureBatch.of(pictures, self.scaling).to(device)
        return batch if self.sparsifier is None else self.sparsifier(batch)


def _of_similar_size(pictures: Sequence[Picture]) -> list[NDArray[np.int64]]:
    """Return the places of pictures whose heights and widths lie between the same powers of two."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(pictures):
        kind = tuple(int(side).bit_length() for side in np.shape(picture)[:2])
        groups.setdefault(kind, []).append(place)
    return [np.array(group) for group in groups.values()]


def _joined(
    parts: Sequence[PaddedBatch], groups: Sequence[NDArray[np.int64]], device: torch.device | str
) -> PaddedBatch:
    """Return the pictures of several groups as one batch, in the order of their places."""
    coords = []
    for part, group in zip(parts, groups, strict=True):
        own = part.coords.clone()
        own[:, 0] = torch.from_numpy(group).to(own)[part.coords[:, 0].long()]
        coords.append(own)
    joined = torch.cat(coords)
    # Stable: within a picture the order of its sites stays.
    order = joined[:, 0].sort(stable=True).indices
    dropped = torch.empty(sum(map(len, groups)), dtype=torch.int64, device=device)
    dropped[torch.from_numpy(np.concatenate(groups)).to(device)] = torch.cat(
        [part.dropped for part in parts]
    )
    features = torch.cat([part.features for part in parts])
    return PaddedBatch(joined[order], features[order], dropped)
