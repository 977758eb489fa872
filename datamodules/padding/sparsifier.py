"""Sparsifiers: they make background where a picture has none by itself."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcnn_lightning.core.errors import DataError, MissingExtraError
from spcnn_lightning.datamodules.padding.picture_batch import PictureBatch, Scaling


class Sparsifier(ABC):
    """Sets what does not matter to zero, the background; a step before augmentation.

    A new one is one sub-class: it returns the batch with other pixels, and says how many channels
    they have.
    """

    def out_channels(self, channels: int) -> int:
        """Return the number of features that ``channels`` channels become."""
        return channels

    def farthest(self, scaling: Scaling) -> float:
        """Return the largest distance from zero that a value can have afterwards; 0 for none."""
        return scaling.farthest

    @abstractmethod
    def __call__(self, batch: PictureBatch) -> PictureBatch:
        """Return the sparser pictures; see `PictureBatch.with_pixels`."""


class Threshold(Sparsifier):
    """Keeps pixels that differ from the background by more than ``least`` in any channel.

    Args:
        least: On the scale on which the background is 0 and the farthest value 1.

    Raises:
        ValueError: If ``least`` is negative or not finite.
    """

    def __init__(self, least: float = 0.1) -> None:
        self.least = _amount("least", least)

    def farthest(self, scaling: Scaling) -> float:
        """Return 0 if ``least`` lies beyond every value."""
        return scaling.farthest if self.least < scaling.farthest else 0.0

    def __call__(self, batch: PictureBatch) -> PictureBatch:
        """Return the pictures with zeros elsewhere."""
        return batch.with_pixels(_kept(batch.pixels, self.least))


class Edges(Sparsifier):
    """Keeps the edges that Canny's detector finds: one channel, 1 on an edge and 0 elsewhere.

    Needs scikit-image: ``pip install "spcnn-lightning[pictures]"``.

    Args:
        sigma: Width of the smoothing before edges are looked for, in pixels.
        low: Strength of the weakest edge that is followed, on the scale of pixel values.
        high: Strength from which on an edge is begun.

    Raises:
        ValueError: If an amount is out of range.
        MissingExtraError: When called, if scikit-image is not installed.
    """

    def __init__(self, sigma: float = 1.0, low: float = 0.1, high: float = 0.2) -> None:
        self.sigma, self.low, self.high = _amount("sigma", sigma), _amount("low", low), high
        if not low <= high < math.inf:
            raise ValueError(f"high is {high}: give a finite strength of at least low, {low}")

    def out_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def farthest(self, scaling: Scaling) -> float:
        """Return 1."""
        return 1.0

    def __call__(self, batch: PictureBatch) -> PictureBatch:
        """Return the edges of the mean of all channels."""
        try:
            canny = importlib.import_module("skimage.feature").canny
        except ImportError as error:
            raise MissingExtraError(
                'Edges needs scikit-image: pip install "spcnn-lightning[pictures]"'
            ) from error
        edges = batch.with_pixels(torch.zeros(1, batch.pixels.shape[1]))
        for number in range(len(batch)):
            grey = batch.picture(number).mean(-1).cpu().numpy()
            found = canny(grey, self.sigma, self.low, self.high, mode="nearest")
            edges.picture(number)[..., 0] = torch.from_numpy(found)
        return edges.to(batch.pixels.device)


class BackgroundSubtraction(Sparsifier):
    """Subtracts a picture of the empty scene, as a camera that does not move sees it.

    Args:
        reference: uint8, shape (H, W) or (H, W, C), an ``.npy`` file of such, or a picture file.
        least: Differences that are not larger in any channel are background.

    Raises:
        ValueError: If ``least`` is negative or not finite.
        DataError: If the reference cannot be read, or, when called, a picture has another shape.
    """

    def __init__(self, reference: str | Path | NDArray[np.uint8], least: float = 0.1) -> None:
        self.least = _amount("least", least)
        self.reference = _picture(reference)

    def farthest(self, scaling: Scaling) -> float:
        """Return how far two values can be apart; 0 if ``least`` is more."""
        most = scaling.span
        return most if self.least < most else 0.0

    def __call__(self, batch: PictureBatch) -> PictureBatch:
        """Return the differences from the reference."""
        reference = self.reference
        if (reference == reference[..., :1]).all():  # grey, which fits pictures of any channels
            reference = reference[..., :1].repeat(batch.channels, -1)
        shape = (*reference.shape[:2], batch.channels)
        wrong = (batch.sizes != shape[:2]).any(1)
        if wrong.any() or shape != reference.shape:
            found = (*batch.sizes[wrong.argmax()].tolist(), batch.channels) if len(batch) else shape
            raise DataError(
                f"the reference has shape {self.reference.shape}, picture {int(wrong.argmax())} of "
                f"the batch {found}: BackgroundSubtraction needs pictures of one shape"
            )
        empty = PictureBatch.of([reference], batch.scaling).pixels.to(batch.pixels.device)
        difference = batch.pixels - empty.repeat(1, len(batch))
        return batch.with_pixels(_kept(difference, self.least))


def _kept(pixels: Tensor, least: float) -> Tensor:
    """Return pixels with zeros where no channel is beyond ``least``."""
    return pixels * (pixels.abs() > least).any(0, keepdim=True)


def _amount(name: str, amount: float) -> float:
    if not 0 <= amount < math.inf:
        raise ValueError(f"{name} is {amount}: give a finite amount of at least 0")
    return amount


def _picture(reference: str | Path | NDArray[Any]) -> NDArray[np.uint8]:
    if isinstance(reference, (str, Path)):
        # Not at the top: sources of pictures look up how they are padded.
        from spcnn_lightning.datamodules.pictures.pillow_images import ENDINGS, read_picture

        if Path(reference).suffix.lower() in ENDINGS:
            return read_picture(Path(reference), 3, 0)
        try:
            reference = np.load(reference, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{reference}: no picture file, and no .npy file of one ({error})"
            ) from error
    picture = np.asarray(reference)
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3):
        raise DataError(
            f"the reference is {picture.dtype} of shape {picture.shape}, expected uint8 of shape "
            "(H, W) or (H, W, C)"
        )
    return picture if picture.ndim == 3 else picture[..., None]
