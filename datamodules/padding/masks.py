"""Pictures with masks: what lies outside of a mask is background, whatever its pixels hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.padding.picture_batch import (
    Picture,
    PictureBatch,
    Scaling,
    check_pictures,
)
from spcnn_lightning.datamodules.padding.sparsifier import Sparsifier


def cut_out(
    pictures: Sequence[Picture],
    scaling: Scaling,
    sparsifier: Sparsifier | None = None,
    device: torch.device | str = "cpu",
) -> PictureBatch:
    """Return pictures with zeros outside of their masks, and the masks as last channel, 0 to 1.

    Zeros are set here, before anything looks between pixels, so that no value from outside can
    come in. What a sparsifier removes is taken out of the mask.

    Args:
        pictures: uint8, shape (H, W, C + 1): the last channel is 255 inside and 0 outside.
        scaling: Maps the first C channels.
        sparsifier: Sees pictures that are zero outside of their masks.
        device: Where to compute.

    Raises:
        DataError: If a picture is no uint8 picture, or holds nothing but a mask.
    """
    if check_pictures(pictures) == 1:
        raise DataError("pictures of the batch have 1 channel, expected others before the mask")
    batch = PictureBatch.of([picture[..., :-1] for picture in pictures], scaling).to(device)
    masks = PictureBatch.of([picture[..., -1:] for picture in pictures], Scaling()).pixels
    masks = masks.to(device)
    batch = batch.with_pixels(batch.pixels * masks)
    if sparsifier is not None:
        batch = sparsifier(batch)
        batch = batch.with_pixels(batch.pixels * masks)  # edges may lie beside what they bound
        masks = masks * (batch.pixels != 0).any(0)
    return batch.with_pixels(torch.cat([batch.pixels, masks]))
