"""The walk compiled by numba: the same numbers as legs.py and runs.py, to the last bit, sooner.

Needs the extra ``fast``. Compiling takes some seconds once; numba keeps the machine code beside
this file, or in the user's cache folder where that is read-only.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from spcnn_lightning.datamodules.raster.legs import TIE_TOLERANCE, Floats, Integers, Legs
from spcnn_lightning.datamodules.raster.runs import BORDER_TOLERANCE, Runs

_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Times a power of two, its upper six bits tell which: each six bits of it are others."""
_ONE, _SIX_LEFT = np.uint64(1), np.uint64(58)
_NUMBER_OF_BIT = np.zeros(64, np.int64)
_NUMBER_OF_BIT[[(int(_DE_BRUIJN) << bit) % 2**64 >> 58 for bit in range(64)]] = np.arange(64)

_compile: Any = numba.njit(cache=True, nogil=True, error_model="numpy")


def cut_into_legs(points: Floats, point_offsets: Integers, density: float) -> Legs:
    """As `spcnn_lightning.datamodules.raster.legs.cut_into_legs`."""
    return Legs(*_cut_into_legs(points, point_offsets, density))


def runs_of(legs: Legs, sample_of_stroke: Integers, samples: int, shape: tuple[int, ...]) -> Runs:
    """As `spcnn_lightning.datamodules.raster.runs.runs_of`."""
    sample = sample_of_stroke[legs.stroke]
    sizes = np.array(shape)
    middle = sizes / 2 + BORDER_TOLERANCE
    return Runs(*_runs_of(legs.first, legs.step, legs.count, sample, samples, sizes, middle))


def number_sites(keys: Integers, samples: int, volume: int) -> tuple[Integers, Integers]:
    """As `spcnn_lightning.datamodules.raster.runs.number_sites`, for keys in order of samples."""
    distinct, place = _number_sites(keys, samples, volume)
    return distinct, place


@_compile
def _cut_into_legs(points, point_offsets, density):  # type: ignore[no-untyped-def]
    number, axes = points.shape
    strokes = len(point_offsets) - 1
    first, step = np.zeros((2 * number, axes)), np.zeros((2 * number, axes))
    begin, count = np.zeros(2 * number, np.int64), np.zeros(2 * number, np.int64)
    stroke_of_leg = np.zeros(2 * number, np.int64)
    place, steps = np.zeros(number), np.zeros(strokes, np.int64)
    travelled = np.zeros(number + 1)
    legs = 0
    for stroke in range(strokes):
        start, last = point_offsets[stroke], point_offsets[stroke + 1] - 1
        for p in range(start, last):
            down, right = points[p + 1, 0] - points[p, 0], points[p + 1, 1] - points[p, 1]
            travelled[p + 1] = travelled[p] + np.sqrt(down * down + right * right)
        travelled[last + 1] = travelled[last]
        total = travelled[last] - travelled[start]
        n = np.int64(np.floor(total / density + 0.5 + TIE_TOLERANCE))
        steps[stroke] = n
        rate = n / total if total > 0 else 0.0
        before = -1  # the leg inside the last piece that holds a point
        reached = np.int64(0)
        for p in range(start, last + 1):
            place[p] = n if p == last else (travelled[p] - travelled[start]) * rate
        for p in range(start, last + 1):
            reached = min(np.int64(np.ceil(place[p] - TIE_TOLERANCE)), n)
            end = n + 1 if p == last else min(np.int64(np.ceil(place[p + 1] - TIE_TOLERANCE)), n)
            if end <= reached:
                continue
            span = 0.0
            if p < last:
                down, right = points[p + 1, 0] - points[p, 0], points[p + 1, 1] - points[p, 1]
                span = np.sqrt(down * down + right * right) * rate
            inside = end - reached - 1
            source = start if p == last and n == 0 else p  # a dot is drawn at its first point
            for axis in range(axes):
                way = (points[p + 1, axis] - points[p, axis]) / span if span > 0 else 0.0
                at = points[source, axis] + (reached - place[p]) * way
                first[legs, axis], step[legs, axis] = at, way
                first[legs + 1, axis] = at + inside * way
                if before >= 0:
                    step[before + 1, axis] = at - first[before + 1, axis]
            begin[legs], count[legs] = reached, inside
            begin[legs + 1], count[legs + 1] = reached + inside, 1
            stroke_of_leg[legs] = stroke_of_leg[legs + 1] = stroke
            before = legs
            legs += 2
        if n > 0:
            count[legs - 1] = 0  # the last point is where the last step ends
    return (
        first[:legs],
        step[:legs],
        begin[:legs],
        count[:legs],
        stroke_of_leg[:legs],
        place,
        steps,
    )


@_compile
def _runs_of(first, step, count, sample, samples, shape, middle):  # type: ignore[no-untyped-def]
    axes = len(shape)
    bound = _most_runs(first, step, count, shape, middle)
    key, leg_of_run = np.empty(bound, np.int64), np.empty(bound, np.int64)
    number, length = np.empty(bound, np.int64), np.empty(bound, np.int64)
    dropped = np.zeros(samples, np.int64)
    site, end = np.empty(axes, np.int64), np.empty(axes, np.int64)  # where the pen is, till when
    runs = 0
    for leg in range(len(count)):
        n = 0
        end[:] = 0
        while n < count[leg]:
            inside, cell, stop = True, sample[leg], count[leg]
            for axis in range(axes):
                if end[axis] == n:
                    base, way = first[leg, axis] + middle[axis], step[leg, axis]
                    here = _site(base, way, n, shape[axis])
                    site[axis] = here
                    end[axis] = _first_elsewhere(base, way, n, here, shape[axis], count[leg])
                stop = min(stop, end[axis])
                inside &= 0 <= site[axis] < shape[axis]
                cell = cell * shape[axis] + site[axis]
            if inside:
                key[runs], leg_of_run[runs], number[runs], length[runs] = cell, leg, n, stop - n
                runs += 1
            else:
                dropped[sample[leg]] += stop - n
            n = stop
    return key[:runs], leg_of_run[:runs], number[:runs], length[:runs], dropped


@_compile
def _most_runs(first, step, count, shape, middle):  # type: ignore[no-untyped-def]
    """Return one run for each leg and each border that it crosses."""
    bound = 0
    for leg in range(len(count)):
        bound += count[leg] > 0
        if count[leg] > 1:
            for axis in range(len(shape)):
                base = first[leg, axis] + middle[axis]
                end = _site(base, step[leg, axis], count[leg] - 1, shape[axis])
                bound += abs(end - _site(base, step[leg, axis], 0, shape[axis]))
    return bound


@_compile
def _first_elsewhere(base, way, n, site, size, limit):  # type: ignore[no-untyped-def]
    """Return the first step after ``n`` that starts on another site, at most ``limit``.

    The division only guesses; `_site` decides, so that rounding is that of the numpy code.
    """
    if way == 0.0 or limit == n + 1:
        return limit
    guess = ((site + 1 if way > 0 else site) - base) / way + 1.0
    end = np.int64(min(max(guess, float(n + 1)), float(limit)))
    while end > n + 1 and _site(base, way, end - 1, size) != site:
        end -= 1
    while end < limit and _site(base, way, end, size) == site:
        end += 1
    return end


@_compile
def _site(base, way, number, size):  # type: ignore[no-untyped-def]
    return np.int64(np.floor(min(max(way * number + base, -1.0), float(size))))


@_compile
def _number_sites(keys, samples, volume):  # type: ignore[no-untyped-def]
    place, distinct = np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    table = np.empty(volume, np.int32)  # of one sample, as the next: they stay in the cache
    touched = np.zeros(volume // 64 + 1, np.uint64)  # one bit for each site
    sites = begin = 0
    for sample in range(samples):
        offset, end = sample * volume, begin
        while end < len(keys) and keys[end] < offset + volume:
            key = keys[end] - offset
            touched[key >> 6] |= _ONE << np.uint64(key & 63)
            end += 1
        for word in range(len(touched)):
            bits = touched[word]
            while bits != 0:
                lowest = bits & (~bits + _ONE)
                key = 64 * word + _NUMBER_OF_BIT[(lowest * _DE_BRUIJN) >> _SIX_LEFT]
                bits ^= lowest
                table[key] = sites
                distinct[sites] = offset + key
                sites += 1
            touched[word] = 0
        for run in range(begin, end):
            place[run] = table[keys[run] - offset]
        begin = end
    return distinct[:sites], place
