"""Random shifts of colour."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from spcnn_lightning.datamodules.randomness import SampleRandom


class ColourShift:
    """Shifts each channel of a picture by an amount of its own, and by slopes across the field.

    A value v at row r and column c of a field of h x w sites becomes
    v + d1 + d2 cos(v pi / 2) + d3 (r / h - 1/2) + d4 (c / w - 1/2), where d1 to d4 are normal and
    drawn for each picture and channel. Only active sites are shifted; nothing is clipped.

    Args:
        level: Standard deviation of d1, on the scale on which the background is 0.
        contrast: Of d2.
        slope: Of d3 and d4.

    Raises:
        ValueError: If an amount is negative or not finite.

    Source:
        B. Graham's program for the Kaggle competition CIFAR-10, 2014, with these amounts; the
        paper's experiments had no shifts of colour.
    """

    def __init__(self, level: float = 0.2, contrast: float = 0.3, slope: float = 0.6) -> None:
        for name, amount in (("level", level), ("contrast", contrast), ("slope", slope)):
            if not (math.isfinite(amount) and amount >= 0):
                raise ValueError(f"{name} is {amount}: give a finite amount of at least 0")
        self.level, self.contrast, self.slope = level, contrast, slope

    def __call__(
        self, values: Tensor, coords: Tensor, spatial_shape: tuple[int, ...], random: SampleRandom
    ) -> Tensor:
        """Return the shifted values of N sites.

        Args:
            values: float32, shape (N, C).
            coords: int, shape (N, 3): sample, row, column.
            spatial_shape: Rows and columns of the field.
            random: Gives each sample its numbers.
        """
        channels, samples = values.shape[1], len(random.indices)
        amounts = np.array([self.level, self.contrast, self.slope, self.slope])
        shifts = _normal(random, 4 * channels).reshape(samples, 4, channels) * amounts[:, None]
        table = torch.from_numpy(shifts.astype(np.float32)).to(values.device)
        sample = coords[:, 0].long()
        d1, d2, d3, d4 = (table[:, k].index_select(0, sample) for k in range(4))
        down, right = ((coords[:, k + 1] / spatial_shape[k] - 0.5)[:, None] for k in (0, 1))
        return values + d1 + d2 * torch.cos(values * (math.pi / 2)) + d3 * down + d4 * right


def _normal(random: SampleRandom, draws: int) -> np.ndarray:
    """Return normal numbers, shape (B, draws), by the method of Box and Muller."""
    radius, angle = np.split(random.uniform_table(2 * draws), 2, axis=1)
    return np.asarray(np.sqrt(-2 * np.log1p(-radius)) * np.cos(2 * math.pi * angle))
