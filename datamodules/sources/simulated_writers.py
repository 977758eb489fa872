"""Simulated writers: templates of characters, deformed and joined as people do, a batch at a time.

The unit of length is the width of the box that characters are drawn in. Each number is a function
of the seed, the writer, and where it says so of the class, the repetition and the stroke.

1. Each stroke is scaled, bent and moved a little.
2. A smooth warp, the writer's own but for its phase, and an affine map, the writer's own.
3. Strokes are joined: between the end of one and the beginning of the next the pen stays down with
   probability ``min(1, 1.35 p exp(-gap / 0.45))``, p the writer's own. This is what makes simulated
   characters look written: real writers of CASIA-OLHWDB 1.0 make .61 strokes for each standard
   one (5 to 95 %: .17 to 1.0; measured on 50 classes), and with ``join = 0.65`` simulated ones make
   .60 (.25 to 1.0; all 3,755 classes).
4. Corners are rounded by a moving average.

Source:
    This project; the constants were chosen on the stroke counts above.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.randomness import counter_uniform
from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

SPACING = 0.03
"""Distance of points."""
LOG_SCALE, SHEARS = 0.10, (0.10, 0.06)
WARPS, WARP_SIZE, WARP_SPREAD, WARP_FREQUENCY, WARP_SUM, PHASE = 3, 0.035, 0.3, (0.5, 1.6), 1.7, 0.5
STROKE_LOG_SCALE, STROKE_OFFSET, BOW = 0.06, 0.018, 0.05
ROUNDING = 0.06
JOIN_FACTOR, JOIN_LENGTH = 1.35, 0.45


@dataclass(frozen=True)
class Samples:
    """Which B samples to make.

    Args:
        labels: int64, shape (B,).
        writers: int64, shape (B,).
        repetitions: int64, shape (B,): one writer writes the same class several times.
    """

    labels: Integers
    writers: Integers
    repetitions: Integers


@dataclass(frozen=True)
class SimulatedWriters:
    """Makes characters.

    Args:
        templates: One for each class, as `resampled` returns them.
        numbers: int64, one for each class: what its random numbers depend on, whichever classes
            stand beside it.
        seed: Other writers for another seed.
        join: Mean of p over the writers, 0 (never join) to less than 1.
        deformation: Factor of all deformations.
    """

    templates: StrokeSet
    numbers: Integers
    seed: int
    join: float
    deformation: float

    def write(self, samples: Samples) -> StrokeSet:
        """Return the samples, in their order."""
        plain = self.templates.select(samples.labels)
        if not len(plain):
            return replace(plain, writers=samples.writers.astype(np.int32))
        strokes = np.repeat(np.arange(len(plain)), np.diff(plain.stroke_offsets))
        number = np.arange(len(strokes)) - plain.stroke_offsets[strokes]
        ids = (*(values[strokes] for values in self._ids(samples)), 1 + number)
        character = np.repeat(strokes, np.diff(plain.point_offsets))
        points = self._vary_strokes(plain.points.astype(np.float64), plain.point_offsets, ids)
        points = self._warp(points, samples, character)
        points = self._transform(points, samples.writers, character)
        inclination = self.inclination_to_join(samples.writers)[strokes]
        joined = self._choose_joins(points, plain.point_offsets, inclination, ids)
        points, point_offsets, kept = _join(points, plain.point_offsets, joined)
        points = self._round(points, point_offsets, samples.writers[strokes[kept]])
        return StrokeSet(
            points.astype(np.float32),
            point_offsets,
            offsets_of(np.bincount(strokes[kept], minlength=len(plain))),
            samples.labels,
            samples.writers.astype(np.int32),
            validate=False,
        )

    def _vary_strokes(
        self, points: Doubles, offsets: Integers, ids: tuple[Integers, ...]
    ) -> Doubles:
        """Scale each stroke about its middle, bend it across its chord and move it."""
        normal = partial(self._normal, *ids)
        first, last = offsets[:-1], offsets[1:] - 1
        lengths = np.diff(offsets)
        stroke = np.repeat(np.arange(len(lengths)), lengths)
        chord = points[last] - points[first]
        across = np.stack([-chord[:, 1], chord[:, 0]], axis=1)
        middle = np.add.reduceat(points, first) / lengths[:, None]
        place = (np.arange(len(points)) - first[stroke]) / np.maximum(lengths - 1, 1)[stroke]
        scale = np.exp(self.deformation * STROKE_LOG_SCALE * normal(0))
        bend = self.deformation * BOW * normal(1)[:, None] * across
        offset = self.deformation * STROKE_OFFSET * np.stack([normal(2), normal(3)], axis=1)
        moved = (points - middle[stroke]) * scale[stroke, None] + (middle + offset)[stroke]
        return np.asarray(moved + bend[stroke] * (4 * place * (1 - place))[:, None])

    def _warp(self, points: Doubles, samples: Samples, character: Integers) -> Doubles:
        """Add waves: direction, length, height and phase are the writer's, shifted a little."""
        shift = np.zeros_like(points)
        low, high = WARP_FREQUENCY
        for wave in range(2 * WARPS):
            own = partial(self._uniform, samples.writers, 1 + wave)
            angle, phase = 2 * np.pi * own(0), 2 * np.pi * own(1)
            height = WARP_SIZE * np.exp(WARP_SPREAD * self._normal(samples.writers, 1 + wave, 2))
            phase += PHASE * self._normal(*self._ids(samples), 0, wave)
            wave_number = 2 * np.pi * (low + (high - low) * own(3))
            rows, columns = wave_number * np.cos(angle), wave_number * np.sin(angle)
            argument = points[:, 0] * rows[character] + points[:, 1] * columns[character]
            shift[:, wave % 2] += height[character] * np.sin(argument + phase[character])
        return points + self.deformation / WARP_SUM * shift

    def _transform(self, points: Doubles, writers: Integers, character: Integers) -> Doubles:
        """Stretch and slant about the middle of the box."""
        normal = partial(self._normal, writers, 0)
        matrices = np.empty((len(writers), 2, 2))
        matrices[:, 0, 0] = np.exp(self.deformation * LOG_SCALE * normal(0))
        matrices[:, 1, 1] = np.exp(self.deformation * LOG_SCALE * normal(1))
        matrices[:, 1, 0] = self.deformation * SHEARS[0] * normal(2)
        matrices[:, 0, 1] = self.deformation * SHEARS[1] * normal(3)
        chosen, centred = matrices[character], points - 0.5
        moved = chosen[:, :, 0] * centred[:, :1] + chosen[:, :, 1] * centred[:, 1:]
        return np.asarray(moved + 0.5)

    def _choose_joins(
        self,
        points: Doubles,
        offsets: Integers,
        inclination: Doubles,
        ids: tuple[Integers, ...],
    ) -> NDArray[np.bool_]:
        """Return for each stroke whether the pen stays down until the next."""
        gaps = points[offsets[1:-1]] - points[offsets[1:-1] - 1]
        distance = np.append(np.sqrt((gaps**2).sum(axis=1)), np.inf)
        chance = JOIN_FACTOR * inclination * np.exp(-distance / JOIN_LENGTH)
        # The next stroke is the next character's where the count of strokes begins again.
        followed = np.append(np.diff(ids[-1]) > 0, False)
        return np.asarray(followed & (self._uniform(*ids, 8) < chance))

    def inclination_to_join(self, writers: Integers) -> Doubles:
        """Return the p of each writer: a Beta(2, 2 / join - 2) variable, whose mean is ``join``."""
        if self.join == 0:
            return np.zeros(len(writers))
        b = 2 / self.join - 2
        wanted = self._uniform(writers, 0, 8)
        low, high = np.zeros(len(writers)), np.ones(len(writers))
        for _ in range(40):  # bisection: the distribution function is 1 - (1 - x)^b (1 + b x)
            middle = (low + high) / 2
            below = 1 - (1 - middle) ** b * (1 + b * middle) < wanted
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2

    def _round(self, points: Doubles, offsets: Integers, writers: Integers) -> Doubles:
        """Average each inner point with its neighbours, with the spread of the writer's window."""
        window = ROUNDING * self._uniform(writers, 0, 9)
        weight = np.repeat(window**2 / (24 * SPACING**2), np.diff(offsets))
        weight[offsets[:-1]] = weight[offsets[1:] - 1] = 0
        neighbours = np.roll(points, 1, axis=0) + np.roll(points, -1, axis=0) - 2 * points
        return points + weight[:, None] * neighbours

    def _ids(self, samples: Samples) -> tuple[Integers, Integers, Integers]:
        """Return what the random numbers of a sample depend on."""
        return samples.writers, self.numbers[samples.labels] + 1, samples.repetitions

    def _uniform(self, *counters: Integers | int) -> Doubles:
        return counter_uniform(self.seed, *counters)

    def _normal(self, *counters: Integers | int) -> Doubles:
        """Return normal numbers, mean 0 and variance 1, by the method of Box and Muller."""
        radius = np.sqrt(-2 * np.log1p(-self._uniform(*counters, 0)))
        return np.asarray(radius * np.cos(2 * np.pi * self._uniform(*counters, 1)))


def resampled(templates: StrokeSet, box: float) -> StrokeSet:
    """Return templates in a box of width 1, with points at equal distances of about `SPACING`."""
    points, offsets = templates.points / np.float64(box), templates.point_offsets
    steps = np.sqrt((np.diff(points, axis=0) ** 2).sum(axis=1))
    steps[offsets[1:-1] - 1] = 1  # keeps strokes apart on the common axis of arc lengths
    arc = np.concatenate([[0], np.cumsum(steps)])
    first, last = arc[offsets[:-1]], arc[offsets[1:] - 1]
    count = np.maximum(np.round((last - first) / SPACING).astype(np.int64), 1)
    new_offsets = offsets_of(count + 1)
    share = (np.arange(new_offsets[-1]) - np.repeat(new_offsets[:-1], count + 1)) / np.repeat(
        count, count + 1
    )
    places = np.repeat(first, count + 1) + share * np.repeat(last - first, count + 1)
    columns = [np.interp(places, arc, points[:, axis]) for axis in (0, 1)]
    return StrokeSet(
        np.stack(columns, axis=1).astype(np.float32),
        new_offsets,
        templates.stroke_offsets,
        templates.labels,
    )


def _join(
    points: Doubles, offsets: Integers, joined: NDArray[np.bool_]
) -> tuple[Doubles, Integers, Integers]:
    """Draw moves of the pen between joined strokes.

    Returns:
        The points, the offsets of the strokes that are left, and the number that each of these,
        its first stroke, had before.
    """
    ends = offsets[1:][joined] - 1
    gaps = np.sqrt(((points[ends + 1] - points[ends]) ** 2).sum(axis=1))
    copies = np.ones(len(points), np.int64)
    copies[ends] = np.maximum(np.ceil(gaps / SPACING).astype(np.int64), 1)
    source = np.repeat(np.arange(len(points)), copies)
    begin = offsets_of(copies)
    share = (np.arange(len(source)) - begin[source]) / copies[source]
    following = np.minimum(source + 1, len(points) - 1)
    drawn = points[source] + share[:, None] * (points[following] - points[source])
    kept = np.flatnonzero(~np.append(False, joined[:-1]))
    return drawn, np.append(begin[offsets[:-1][kept]], len(drawn)), kept
