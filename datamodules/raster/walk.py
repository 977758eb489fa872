"""The walk: pen paths resampled at constant arc length and mapped onto the sites of a field.

This is the part that runs over every step of every pen, about 400 for a character 16 sites wide,
so it does as little as possible there: each step gets its site, then neighbouring steps of one
direction on one site become a *run* with a count. Encoders see runs only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.raster.paths import PenPaths
from spcnn_lightning.datamodules.strokes import offsets_of

BORDER_TOLERANCE = 1e-9
"""Points this close below the border of a site, in sites, lie on it: rounding must not decide."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ItemT = TypeVar("ItemT", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Walk:
    """What the pens of B samples did on the field, in R runs of equal steps over N sites.

    Args:
        coords: int32, shape (N, 3): sample, row, column of each site touched, in that order.
        site: int64, shape (R,): the site that a run lies in.
        count: int64, shape (R,): number of steps, each about ``density`` long.
        direction: float64, shape (R, 2): the way of the pen, (row, column), of any length; zero
            for a dot.
        stroke: int64, shape (R,): the stroke of the batch that a run belongs to.
        dropped: int64, shape (B,): steps of each sample that fell outside the field.
    """

    coords: NDArray[np.int32]
    site: Integers
    count: Integers
    direction: Floats
    stroke: Integers
    dropped: Integers


def walk_paths(paths: PenPaths, spatial_shape: tuple[int, int], density: float = 0.1) -> Walk:
    """Walk along every stroke in steps of about ``density`` sites and note the sites.

    A stroke of length L is cut into n = floor(L / density + 1/2) steps of equal length. A step
    counts for the site that it starts in: floor(coordinate + size / 2) along each axis. Its
    direction leads to the start of the next step. A stroke without steps is a dot: one step, of no
    direction, at its first point. Steps that start outside the field are dropped and counted.

    Args:
        paths: Points in sites, the origin in the middle of the field.
        spatial_shape: Rows and columns of the field.
        density: Length of a step, in sites.
    """
    legs = _cut_into_legs(paths, density)
    leg_of_step = np.repeat(np.arange(len(legs.count)), legs.count)
    number = np.arange(len(leg_of_step)) - offsets_of(legs.count)[leg_of_step]
    rows = _sites_along(legs.first[:, 0], legs.step[:, 0], leg_of_step, number, spatial_shape[0])
    columns = _sites_along(legs.first[:, 1], legs.step[:, 1], leg_of_step, number, spatial_shape[1])

    starts_run = number == 0
    starts_run[1:] |= rows[1:] != rows[:-1]
    starts_run[1:] |= columns[1:] != columns[:-1]
    start = np.flatnonzero(starts_run)
    count = np.diff(np.append(start, len(number)))
    runs = _Runs(leg_of_step[start], count, rows[start], columns[start])
    return _collect(paths, legs, runs, spatial_shape)


@dataclass(frozen=True, eq=False)
class _Legs:
    """Stretches of path with steps of one direction: inside a piece, or across a pen point."""

    first: Floats  # (K, 2) start of the first step
    step: Floats  # (K, 2) from the start of one step to that of the next
    direction: Floats  # (K, 2)
    count: Integers  # (K,) number of steps
    stroke: Integers  # (K,)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Neighbouring steps of one leg on one site, R of them."""

    leg: Integers
    count: Integers
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]


def _cut_into_legs(paths: PenPaths, density: float) -> _Legs:
    """Place the starts of steps 0 .. n of each stroke on the pieces between its pen points.

    Each pen point begins a piece. That of a stroke's last point has no length; it holds point n,
    where the last step ends, and so makes the end of a stroke exact.
    """
    points, last = paths.points, paths.point_offsets[1:] - 1
    per_stroke = np.diff(paths.point_offsets)
    stroke = np.repeat(np.arange(len(per_stroke)), per_stroke)
    steps, place, step = _arc_length(paths, density)

    begin = np.minimum(np.ceil(place).astype(np.int64), np.repeat(steps, per_stroke))
    end = np.append(begin[1:], 0)
    end[last] = steps + 1
    first = points + (begin - place)[:, None] * step
    first[last[steps == 0]] = points[paths.point_offsets[:-1][steps == 0]]  # dots

    held = np.flatnonzero(end > begin)  # pieces that hold a point at all
    first, step, stroke = first[held], step[held], stroke[held]
    inside = (end - begin)[held] - 1
    onward = np.zeros_like(first)  # from the last point of a piece to the next piece's first
    onward[:-1] = first[1:] - (first[:-1] + inside[:-1, None] * step[:-1])
    is_last = np.append(stroke[1:] != stroke[:-1], True)[: len(stroke)]
    onward[is_last] = 0.0
    across = np.where(is_last & (steps[stroke] > 0), 0, 1)

    return _Legs(
        first=_interleave(first, first + inside[:, None] * step),
        step=_interleave(step, onward),
        direction=_interleave(step, onward),
        count=_interleave(inside, across),
        stroke=np.repeat(stroke, 2),
    )


def _arc_length(paths: PenPaths, density: float) -> tuple[Integers, Floats, Floats]:
    """Return steps per stroke (S,), and place (P,) and step vector (P, 2) of each pen point.

    The place is the arc length in steps of the stroke; the step vector leads along the piece that
    begins there.
    """
    points, offsets = paths.points, paths.point_offsets
    per_stroke, last = np.diff(offsets), offsets[1:] - 1
    vectors = np.zeros_like(points)
    vectors[:-1] = points[1:] - points[:-1]
    vectors[last] = 0.0
    lengths = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2)
    travelled = np.zeros(len(lengths) + 1)
    np.cumsum(lengths, out=travelled[1:])
    total = travelled[last] - travelled[offsets[:-1]]
    steps = np.floor(total / density + 0.5).astype(np.int64)

    rate = np.divide(steps, total, out=np.zeros_like(total), where=total > 0)
    rate = np.repeat(rate, per_stroke)
    place = (travelled[:-1] - np.repeat(travelled[offsets[:-1]], per_stroke)) * rate
    place[last] = steps
    span = (lengths * rate)[:, None]
    step = np.divide(vectors, span, out=np.zeros_like(vectors), where=span > 0)
    return steps, place, step


def _sites_along(
    first: Floats, step: Floats, leg: Integers, number: Integers, size: int
) -> NDArray[np.int32]:
    """Return the index along one axis of the site of every step, shape (Q,)."""
    place = step[leg]
    place *= number
    place += (first + (size / 2 + BORDER_TOLERANCE))[leg]
    np.clip(place, -1.0, float(size), out=place)  # int32 must hold what lies far outside
    return np.floor(place, out=place).astype(np.int32)


def _collect(paths: PenPaths, legs: _Legs, runs: _Runs, spatial_shape: tuple[int, int]) -> Walk:
    """Drop the runs outside the field and number the sites of the others."""
    height, width = spatial_shape
    sample_of_stroke = np.repeat(np.arange(len(paths)), np.diff(paths.stroke_offsets))
    sample = sample_of_stroke[legs.stroke[runs.leg]]
    rows, columns = runs.rows, runs.columns
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    dropped = np.bincount(sample[~inside], runs.count[~inside], minlength=len(paths))
    key = (sample[inside] * height + rows[inside]) * width + columns[inside]
    site_keys, site = number_sites(key, len(paths) * height * width)
    coords = np.empty((len(site_keys), 3), np.int32)
    coords[:, 0], rest = np.divmod(site_keys, height * width)
    coords[:, 1], coords[:, 2] = np.divmod(rest, width)
    leg = runs.leg[inside]
    return Walk(
        coords,
        site,
        runs.count[inside],
        legs.direction[leg],
        legs.stroke[leg],
        dropped.astype(np.int64),
    )


def number_sites(keys: Integers, volume: int) -> tuple[Integers, Integers]:
    """Return the distinct keys in order, and the place of each key among them.

    As ``np.unique(keys, return_inverse=True)``, without the sort where a table of ``volume`` bits
    is cheaper.
    """
    if volume > 64 * len(keys) + 2**22:
        distinct, place = np.unique(keys, return_inverse=True)
        return distinct, place.reshape(-1)
    touched = np.zeros(volume, bool)
    touched[keys] = True
    distinct = np.flatnonzero(touched)
    place = np.empty(volume, np.int32)
    place[distinct] = np.arange(len(distinct), dtype=np.int32)
    return distinct, place[keys].astype(np.int64)


def _interleave(even: NDArray[ItemT], odd: NDArray[ItemT]) -> NDArray[ItemT]:
    both = np.empty((2 * len(even), *even.shape[1:]), even.dtype)
    both[0::2], both[1::2] = even, odd
    return both
