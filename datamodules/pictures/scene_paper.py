"""ScenePaper: puts drawings on a sheet, pushed together until they touch."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 8
"""So many are tried for a drawing before it is left out."""


class ScenePaper:
    """A square sheet, on which each drawing is a region; the one on top has the pixel.

    Args:
        side: Its height and width.

    Attributes:
        values: float32, shape (side, side): 0 where there is no drawing.
        regions: int64, shape (side, side): 0 there, k where drawing k is, counted from 1.
        middles: Row and column of the middle of each drawing's box.
        sizes: How many pixels each has, covered ones included.
    """

    def __init__(self, side: int) -> None:
        self.values = np.zeros((side, side), np.float32)
        self.regions = np.zeros((side, side), np.int64)
        self.middles: list[tuple[float, float]] = []
        self.sizes: list[int] = []

    def put(self, drawing: NDArray[np.float32], partner: float, angle: float, cover: float) -> bool:
        """Put a drawing on the sheet, and return whether there was room.

        The first one goes into the middle. Another one begins on the middle of its partner and is
        moved away from it until it covers of none more than allowed.

        Args:
            drawing: Shape (h, w): 0 is transparent.
            partner: From 0 to below 1: which of those that are there.
            angle: The direction in which it is moved, in radians. If it meets the end of the
                sheet, others are tried.
            cover: Share of a drawing's pixels that may be covered, by this one and those before.
        """
        inside = drawing != 0
        if not inside.any():
            return False
        if not self.sizes:
            middle = (len(self.regions) / 2,) * 2
            return self._try(drawing, inside, middle, cover=0.0) is True
        middle = self.middles[int(partner * len(self.middles))]
        for turn in range(DIRECTIONS):
            direction = angle + turn * 2 * math.pi / DIRECTIONS
            for distance in range(len(self.regions)):
                place = (
                    middle[0] + distance * math.sin(direction),
                    middle[1] + distance * math.cos(direction),
                )
                lies = self._try(drawing, inside, place, cover)
                if lies:
                    return True
                if lies is None:
                    break
        return False

    def _try(
        self,
        drawing: NDArray[np.float32],
        inside: NDArray[np.bool_],
        middle: tuple[float, float],
        cover: float,
    ) -> bool | None:
        """Put a drawing where it is to be; False if it covers too much, None if it hangs over."""
        height, width = drawing.shape
        top, left = round(middle[0] - height / 2), round(middle[1] - width / 2)
        if min(top, left) < 0 or max(top + height, left + width) > len(self.regions):
            return None
        window = (slice(top, top + height), slice(left, left + width))
        regions = self.regions[window]
        lost = np.bincount(regions[inside], minlength=len(self.sizes) + 1)[1:]
        if lost.any():
            visible = np.bincount(self.regions.ravel(), minlength=len(self.sizes) + 1)[1:]
            kept = visible - lost >= (1 - cover) * np.array(self.sizes)
            if not kept[lost > 0].all():
                return False
        self.middles.append(middle)
        self.sizes.append(int(inside.sum()))
        regions[inside] = len(self.sizes)
        self.values[window][inside] = drawing[inside]
        return True
