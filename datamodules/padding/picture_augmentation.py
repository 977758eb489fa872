"""PictureAugmentation: the paper's distortions of training pictures; others are never distorted."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcnn_lightning.datamodules.affine import between, random_maps
from spcnn_lightning.datamodules.padding.colour import ColourShift
from spcnn_lightning.datamodules.padding.picture_batch import PictureBatch, Scaling
from spcnn_lightning.datamodules.padding.warp import Bend, Pixels, interpolate, warp
from spcnn_lightning.datamodules.randomness import SampleRandom
from spcnn_lightning.datamodules.raster import Elastic

MOST_BENT = 4.0
"""Displacements end at so many standard deviations."""


class PictureAugmentation:
    """The paper's distortions of pictures, with the background outside.

    1. Rows and columns are stretched by 1 + U(-stretch, stretch) each.
    2. With ``flip``, half of the pictures are mirrored, left to right.
    3. One of three, with equal probability: rotation by U(-rotate, rotate) radians, slant of the
       columns, or slant of the rows, by U(-slant, slant) columns per row or rows per column.
    4. Elastic bending, if ``elastic`` is not 0, which the paper's experiments had not.
    5. The picture is shifted by a whole number of sites along each axis, from -shift to shift.
    6. Its colours are shifted, if ``colour`` is given, which the paper's experiments had not.

    The first four are one map about the middle of the picture, and one bilinear look-up for each
    pixel. Where a pixel stands in the field changes nothing of its value; parts that leave the
    field are dropped.

    Args:
        stretch: As a share of the size, below 1.
        rotate: In radians.
        slant: In pixels per pixel.
        flip: Mirror half of the pictures. Wrong for writing.
        shift: In sites. The author used 2 or 4 for MNIST, 16 for CIFAR.
        elastic: Standard deviation of the displacement, as a share of the picture's larger side.
        elastic_scale: Distance over which the displacement changes, as such a share.
        colour: Shifts colours; ``ColourShift()`` is the preset of the Kaggle competition.

    Raises:
        ValueError: If an amount is out of range.

    Source:
        B. Graham's programs of 2013 (DeepCNet), 2014 (Kaggle) and 2015 (SparseConvNet), which agree
        on CIFAR: stretch, rotate and slant 0.2, flip, shift 16.
    """

    def __init__(
        self,
        stretch: float = 0.2,
        rotate: float = 0.2,
        slant: float = 0.2,
        flip: bool = False,
        shift: int = 4,
        elastic: float = 0.0,
        elastic_scale: float = 0.3,
        colour: ColourShift | None = None,
    ) -> None:
        amounts = {"stretch": stretch, "rotate": rotate, "slant": slant, "shift": shift}
        for name, amount in amounts.items():
            if not (math.isfinite(amount) and amount >= 0):
                raise ValueError(f"{name} is {amount}: give a finite amount of at least 0")
        if shift != int(shift):
            raise ValueError(f"shift is {shift}: give a whole number of sites")
        if stretch >= 1:
            raise ValueError(
                f"stretch is {stretch}: give less than 1, or pictures would be mirrored"
            )
        self.stretch, self.rotate, self.slant = stretch, rotate, slant
        self.flip, self.shift, self.colour = flip, int(shift), colour
        self.elastic = Elastic(elastic, elastic_scale)

    def distort(
        self,
        batch: PictureBatch,
        first: NDArray[np.int64],
        spatial_shape: tuple[int, ...],
        random: SampleRandom,
    ) -> Pixels:
        """Return the pictures in their field after steps 1 to 5.

        Args:
            batch: B pictures.
            first: shape (B, 2): row and column of each picture's first pixel before.
            spatial_shape: Rows and columns of the field.
            random: Gives each picture its numbers, so that it looks the same in any batch.
        """
        draws = random.uniform_table(7)
        shifts = np.floor(between(-self.shift, self.shift + 1, draws[:, 5:])).astype(np.int64)
        bend = self._bend(batch, random.part(1)) if self.elastic.amount else None
        return warp(batch, first + shifts, spatial_shape, self.maps(draws.T), bend)

    def recolour(
        self, values: Tensor, coords: Tensor, spatial_shape: tuple[int, ...], random: SampleRandom
    ) -> Tensor:
        """Return the values of active sites after step 6; see `ColourShift`."""
        if self.colour is None:
            return values
        return self.colour(values, coords, spatial_shape, random.part(2))

    def maps(self, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the maps of steps 1 to 3, shape (B, 2, 2), for draws of shape (5 or more, B)."""
        matrices = random_maps(draws[:4], self.stretch, self.rotate, self.slant)
        if self.flip:
            matrices[:, :, 1] *= np.where(draws[4] < 0.5, -1.0, 1.0)[:, None]
        return matrices

    def _bend(self, batch: PictureBatch, random: SampleRandom) -> Bend:
        """Return the displacement that `Elastic` draws, for places about the middle."""
        points, extent = self.elastic.grid_points, self.elastic.extent
        table = np.clip(self.elastic.fields(random), -MOST_BENT, MOST_BENT).astype(np.float32)
        # A grid of displacements, looked up like a picture: its border points are the frame.
        sizes = np.full((len(batch), 2), points - 2, np.int64)
        fields = PictureBatch(torch.from_numpy(table), sizes, Scaling()).to(batch.pixels.device)
        sides = torch.from_numpy(batch.sizes.max(1)).float().to(batch.pixels.device)[:, None, None]
        cells, reach = points - 1, MOST_BENT * self.elastic.amount

        def displacement(row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
            grid_row, grid_column = (
                ((x / sides + extent) * (cells / (2 * extent))).clamp(0.0, cells - 1e-4)
                for x in (row, column)
            )
            everywhere = torch.arange(row.numel(), device=row.device)
            found = interpolate(fields, grid_row, grid_column, everywhere)
            down, right = found.view(2, *row.shape) * (self.elastic.amount * sides)
            return down, right

        return Bend(reach * float(batch.sizes.max(initial=0)), displacement)
