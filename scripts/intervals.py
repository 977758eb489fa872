"""Intervals of differences between error rates, measured on the same samples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


def difference_interval(groups: NDArray, first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Return the 95 % interval of the difference of two error rates, in percentage points.

    Whole groups are resampled, with both outcomes of each sample kept together.
    """
    _, number = np.unique(groups, return_inverse=True)
    sizes = np.bincount(number)
    differences = np.bincount(number, first.astype(float) - second.astype(float))
    drawn = np.random.default_rng(0).integers(len(sizes), size=(RESAMPLES, len(sizes)))
    rates = differences[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return np.asarray(100 * np.quantile(rates, (0.025, 0.975)))
