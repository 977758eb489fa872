"""Runs: neighbouring steps of one leg on one site, the reference in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.legs import Floats, Integers, Legs
from spcnn_lightning.datamodules.strokes import offsets_of

BORDER_TOLERANCE = 1e-9
"""Points this close below the border of a site, in sites, lie on it: rounding must not decide."""


@dataclass(frozen=True, eq=False)
class Runs:
    """R runs of equal steps that start on one site each, in the order of writing.

    Args:
        key: int64, shape (R,): (sample * rows + row) * columns + column of the site, and so on.
        leg: int64, shape (R,).
        number: int64, shape (R,): number of the run's first step, counted along its leg.
        count: int64, shape (R,): number of steps.
        dropped: int64, shape (B,): steps of each sample that start outside the field.
    """

    key: Integers
    leg: Integers
    number: Integers
    count: Integers
    dropped: Integers


def runs_of(legs: Legs, sample_of_stroke: Integers, samples: int, shape: tuple[int, ...]) -> Runs:
    """Return the runs of all legs, without those outside the field."""
    leg = np.repeat(np.arange(len(legs.count)), legs.count)
    number = np.arange(len(leg)) - offsets_of(legs.count)[leg]
    axes = [
        _sites_along(legs.first[:, axis], legs.step[:, axis], leg, number, size)
        for axis, size in enumerate(shape)
    ]
    starts_run = number == 0
    for sites in axes:
        starts_run[1:] |= sites[1:] != sites[:-1]
    start = np.flatnonzero(starts_run)
    count = np.diff(np.append(start, len(number)))
    leg, number = leg[start], number[start]

    sample = sample_of_stroke[legs.stroke[leg]]
    key, inside = sample, np.ones(len(start), bool)
    for sites, size in zip(axes, shape, strict=True):
        index = sites[start]
        inside &= (index >= 0) & (index < size)
        key = key * size + index
    dropped = np.bincount(sample[~inside], count[~inside], minlength=samples).astype(np.int64)
    return Runs(key[inside], leg[inside], number[inside], count[inside], dropped)


def _sites_along(
    first: Floats, step: Floats, leg: Integers, number: Integers, size: int
) -> NDArray[np.int32]:
    """Return the index along one axis of the site of every step, shape (Q,)."""
    place = step[leg]
    place *= number
    place += (first + (size / 2 + BORDER_TOLERANCE))[leg]
    np.clip(place, -1.0, float(size), out=place)  # int32 must hold what lies far outside
    return np.floor(place, out=place).astype(np.int32)


def number_sites(keys: Integers, samples: int, volume: int) -> tuple[Integers, Integers]:
    """Return the distinct keys in order, and the place of each key among them.

    As ``np.unique(keys, return_inverse=True)``, without the sort where a table is cheaper.

    Args:
        keys: int64, shape (R,): sample * volume + number of a site, samples in order.
        samples: Number of samples, B.
        volume: Number of sites of a field.
    """
    if samples * volume > 64 * len(keys) + 2**22:
        distinct, place = np.unique(keys, return_inverse=True)
        return distinct, place.reshape(-1)
    touched = np.zeros(samples * volume, bool)
    touched[keys] = True
    distinct = np.flatnonzero(touched)
    table = np.empty(samples * volume, np.int32)
    table[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, table[keys].astype(np.int64)
