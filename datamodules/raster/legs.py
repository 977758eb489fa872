"""Legs: pen paths cut into stretches along which every step is the same vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
ItemT = TypeVar("ItemT", bound=np.generic)

TIE_TOLERANCE = 1e-9
"""In steps. Lengths are sums over the batch, whose rounding must not decide where a tie falls."""


@dataclass(frozen=True, eq=False)
class Legs:
    """K stretches of path with equal steps: inside a piece, or across a pen point.

    Args:
        first: float64, shape (K, D): start of the first step, in sites.
        step: float64, shape (K, D): from the start of one step to that of the next.
        begin: int64, shape (K,): number of the first step, counted along its stroke.
        count: int64, shape (K,): number of steps; 0 for a leg that is not walked.
        stroke: int64, shape (K,).
        place: float64, shape (P,): arc length of each pen point, in steps of its stroke.
        steps: int64, shape (S,): number of steps of each stroke.
    """

    first: Floats
    step: Floats
    begin: Integers
    count: Integers
    stroke: Integers
    place: Floats
    steps: Integers


def cut_into_legs(points: Floats, point_offsets: Integers, density: float) -> Legs:
    """Place the starts of steps 0 .. n of each stroke on the pieces between its pen points.

    Each pen point begins a piece. That of a stroke's last point has no length; it holds point n,
    where the last step ends, and so makes the end of a stroke exact.

    Args:
        points: float64, shape (P, D), in sites. Lengths are measured along the first two axes.
        point_offsets: int64, shape (S + 1,).
        density: Length of a step, in sites.
    """
    last = point_offsets[1:] - 1
    per_stroke = np.diff(point_offsets)
    stroke = np.repeat(np.arange(len(per_stroke)), per_stroke)
    steps, place, step = _arc_length(points, point_offsets, density)

    begin = np.minimum(
        np.ceil(place - TIE_TOLERANCE).astype(np.int64), np.repeat(steps, per_stroke)
    )
    end = np.append(begin[1:], 0)
    end[last] = steps + 1
    first = points + (begin - place)[:, None] * step
    first[last[steps == 0]] = points[point_offsets[:-1][steps == 0]]  # dots

    held = np.flatnonzero(end > begin)  # pieces that hold a point at all
    first, step, stroke = first[held], step[held], stroke[held]
    begin, inside = begin[held], (end - begin)[held] - 1
    onward = np.zeros_like(first)  # from the last point of a piece to the next piece's first
    onward[:-1] = first[1:] - (first[:-1] + inside[:-1, None] * step[:-1])
    is_last = np.append(stroke[1:] != stroke[:-1], True)[: len(stroke)]
    onward[is_last] = 0.0
    across = np.where(is_last & (steps[stroke] > 0), 0, 1)

    return Legs(
        first=_interleave(first, first + inside[:, None] * step),
        step=_interleave(step, onward),
        begin=_interleave(begin, begin + inside),
        count=_interleave(inside, across),
        stroke=np.repeat(stroke, 2),
        place=place,
        steps=steps,
    )


def _arc_length(
    points: Floats, offsets: Integers, density: float
) -> tuple[Integers, Floats, Floats]:
    """Return steps per stroke (S,), and place (P,) and step vector (P, D) of each pen point.

    The place is the arc length in steps of the stroke; the step vector leads along the piece that
    begins there.
    """
    per_stroke, last = np.diff(offsets), offsets[1:] - 1
    vectors = np.zeros_like(points)
    vectors[:-1] = points[1:] - points[:-1]
    vectors[last] = 0.0
    lengths = np.sqrt(vectors[:, 0] ** 2 + vectors[:, 1] ** 2)
    travelled = np.zeros(len(lengths) + 1)
    np.cumsum(lengths, out=travelled[1:])
    total = travelled[last] - travelled[offsets[:-1]]
    steps = np.floor(total / density + 0.5 + TIE_TOLERANCE).astype(np.int64)

    rate = np.divide(steps, total, out=np.zeros_like(total), where=total > 0)
    rate = np.repeat(rate, per_stroke)
    place = (travelled[:-1] - np.repeat(travelled[offsets[:-1]], per_stroke)) * rate
    place[last] = steps
    span = (lengths * rate)[:, None]
    step = np.divide(vectors, span, out=np.zeros_like(vectors), where=span > 0)
    return steps, place, step


def _interleave(even: NDArray[ItemT], odd: NDArray[ItemT]) -> NDArray[ItemT]:
    both = np.empty((2 * len(even), *even.shape[1:]), even.dtype)
    both[0::2], both[1::2] = even, odd
    return both
