"""PictureBatch: pictures of any sizes in one tensor, with their background at zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcnn_lightning.core.errors import DataError

Picture = NDArray[np.uint8]
"""Shape (H, W, C)."""


@dataclass(frozen=True)
class Scaling:
    """Maps 0..255 to (value - background) / scale, so that the background becomes zero.

    Args:
        background: What becomes zero, of 0..255: for all channels, or one number for each.
        scale: What one stands for. None: the larger of ``background`` and 255 - ``background``, as
            in the paper, so that no value is beyond -1 or 1.

    Raises:
        ValueError: If ``background`` is not in 0..255, or a scale is not positive.
    """

    background: float | tuple[float, ...] = 0.0
    scale: float | None = None

    def __post_init__(self) -> None:
        zero = np.asarray(self.background, float)
        if zero.ndim > 1 or not (zero.size and ((zero >= 0) & (zero <= 255)).all()):
            raise ValueError(f"background is {self.background}: give values from 0 to 255")
        if self.scale is not None and not 0 < self.scale < float("inf"):
            raise ValueError(f"scale is {self.scale}: give a positive number, of 0..255, or None")

    @property
    def farthest(self) -> float:
        """The largest distance from zero that a value can have."""
        zero = np.asarray(self.background, float)
        return float((np.maximum(zero, 255 - zero) / self._scales).max())

    @property
    def span(self) -> float:
        """The largest distance between two values."""
        return float((255 / self._scales).max())

    @property
    def _scales(self) -> NDArray[np.float64]:
        zero = np.asarray(self.background, float)
        return (
            np.maximum(zero, 255 - zero) if self.scale is None else np.full(zero.shape, self.scale)
        )

    def check(self, channels: int) -> None:
        """Raise ValueError if there is a background for another number of channels."""
        if isinstance(self.background, (tuple, list)) and len(self.background) != channels:
            raise ValueError(
                f"background {self.background} has {len(self.background)} values for pictures of "
                f"{channels} channels: give one number, or one for each channel"
            )

    def __call__(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """Return B pictures of one size, mapped, shape (B, H, W, C)."""
        zero = np.asarray(self.background, np.float32)
        scale = np.maximum(zero, 255 - zero) if self.scale is None else np.float32(self.scale)
        values = np.stack(pictures).astype(np.float32)
        values -= zero
        values /= scale
        return values


def check_pictures(pictures: Sequence[Picture]) -> int:
    """Return the number of channels that all pictures have; 0 if there is no picture.

    Raises:
        DataError: If one is not uint8, or has another form or number of channels.
    """
    channels = pictures[0].shape[-1] if pictures else 0
    for place, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != channels:
            raise DataError(
                f"picture {place} of the batch is {picture.dtype} of shape {picture.shape}, "
                f"expected uint8 of shape (H, W, {channels})"
            )
    return channels


@dataclass(frozen=True)
class PictureBatch:
    """B pictures of any sizes, one after the other, each in a frame of zeros one pixel wide.

    The frame lets whatever looks between pixels look beyond the border, where the background is.

    Args:
        pixels: float32, shape (C, P): the background is zero. Framed pictures, each row-major, one
            plane for each channel, which makes looking up many pixels fast.
        sizes: int64, shape (B, 2): height and width of each picture, without its frame.
        scaling: How pixels were mapped.
    """

    pixels: Tensor
    sizes: NDArray[np.int64]
    scaling: Scaling

    @staticmethod
    def of(pictures: Sequence[Picture], scaling: Scaling) -> PictureBatch:
        """Return uint8 pictures (H, W, C) as a batch.

        Raises:
            DataError: If one is not uint8, or has another form or number of channels.
        """
        channels = check_pictures(pictures)
        sizes = np.array([picture.shape[:2] for picture in pictures], np.int64).reshape(-1, 2)
        ends = np.cumsum((sizes + 2).prod(1))
        pixels = np.zeros((channels, int(ends[-1]) if len(ends) else 0), np.float32)
        end = 0
        for (height, width, _), neighbours in groupby(pictures, key=np.shape):
            values = scaling(list(neighbours)).transpose(3, 0, 1, 2)
            start, end = end, end + values.shape[1] * (height + 2) * (width + 2)
            framed = pixels[:, start:end].reshape(channels, -1, height + 2, width + 2)
            framed[:, :, 1:-1, 1:-1] = values
        return PictureBatch(torch.from_numpy(pixels), sizes, scaling)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Place of the first pixel of each picture's frame, then P; int64, shape (B + 1,)."""
        return np.concatenate([[0], np.cumsum((self.sizes + 2).prod(1))])

    @property
    def channels(self) -> int:
        """C."""
        return self.pixels.shape[0]

    def __len__(self) -> int:
        return len(self.sizes)

    def picture(self, number: int) -> Tensor:
        """Return one picture without its frame, float32, shape (H, W, C), as a view."""
        height, width = self.sizes[number].tolist()
        start, end = self.starts[number : number + 2].tolist()
        framed = self.pixels[:, start:end].view(self.channels, height + 2, width + 2)
        return framed[:, 1:-1, 1:-1].permute(1, 2, 0)

    def with_pixels(self, pixels: Tensor) -> PictureBatch:
        """Return the batch with other pixels, shape (any C, P), zero in the frames."""
        return PictureBatch(pixels, self.sizes, self.scaling)

    def to(self, device: torch.device | str) -> PictureBatch:
        """Return the batch with its pixels on ``device``."""
        return self.with_pixels(self.pixels.to(device))
