"""Random numbers that are a pure function of counters, for whole batches at once.

A generator object has a state, so its numbers depend on what was drawn before: on the batch that a
sample stands in, and on the worker that prepares it. Here a number is a hash of (seed, epoch,
index, stroke, draw) and of nothing else. The hash is SplitMix64, one round per counter: for fixed
earlier counters, the last one walks through the stream of a SplitMix64 generator.

Source:
    G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014;
    the constants of its 64-bit mixing function are D. Stafford's variant 13.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WORD = 2**64


def counter_hash(seed: int, *counters: ArrayLike) -> NDArray[np.uint64]:
    """Return 64 hashed bits for ``seed`` and the counters, which are broadcast.

    Args:
        seed: Any integer, taken modulo 2**64.
        *counters: Non-negative integers or integer arrays.
    """
    with np.errstate(over="ignore"):  # wrapping at 2**64 is the arithmetic meant here
        state = _mix(np.asarray(seed % _WORD, np.uint64) + _GOLDEN)
        for counter in counters:
            steps = np.asarray(counter).astype(np.uint64) + np.uint64(1)
            state = _mix(state + steps * _GOLDEN)
    return state


def counter_uniform(seed: int, *counters: ArrayLike) -> NDArray[np.float64]:
    """Return uniform numbers in [0, 1), multiples of 2**-53, for ``seed`` and the counters."""
    bits = counter_hash(seed, *counters) >> np.uint64(11)
    return np.asarray(bits.astype(np.float64) * 2.0**-53)


def seeded_order(length: int, seed: int, *counters: int) -> NDArray[np.int64]:
    """Return a permutation of 0 .. length - 1 that depends on ``seed`` and the counters alone."""
    keys = counter_hash(seed, *counters, np.arange(length))
    return np.argsort(keys, kind="stable").astype(np.int64)


@dataclass(frozen=True)
class SampleRandom:
    """The random numbers of B samples: each is a function of (seed, epoch, index, draw) alone.

    Args:
        seed: One for the run.
        epochs: int64, shape (B,).
        indices: int64, shape (B,): places of the samples in their data set.
    """

    seed: int
    epochs: NDArray[np.int64]
    indices: NDArray[np.int64]

    def uniform(self, draw: int, low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
        """Return one number per sample, shape (B,), the same for the same ``draw``."""
        unit = counter_uniform(self.seed, self.epochs, self.indices, 0, draw)
        return low + (high - low) * unit

    def uniform_table(self, draws: int) -> NDArray[np.float64]:
        """Return the numbers of draws 0 to ``draws`` - 1, shape (B, draws), in [0, 1)."""
        epochs, indices = self.epochs[:, None], self.indices[:, None]
        return counter_uniform(self.seed, epochs, indices, 0, np.arange(draws))

    def of(self, places: NDArray[np.int64]) -> SampleRandom:
        """Return the same numbers for some of the samples."""
        return SampleRandom(self.seed, self.epochs[places], self.indices[places])

    def part(self, number: int) -> SampleRandom:
        """Return other numbers for the same samples, one set for each ``number``; 0 gives these."""
        if number == 0:
            return self
        return SampleRandom(int(counter_hash(self.seed, number)), self.epochs, self.indices)

    def uniform_per_stroke(
        self, draws: int, stroke_offsets: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the numbers of draws 0 to ``draws`` - 1 for each stroke of B samples, in [0, 1).

        Args:
            draws: How many numbers each stroke gets.
            stroke_offsets: int64, shape (B + 1,): first stroke of each sample, then S.

        Returns:
            float64, shape (draws, S).
        """
        per_sample = np.diff(stroke_offsets)
        epochs, indices = np.repeat(self.epochs, per_sample), np.repeat(self.indices, per_sample)
        number = np.arange(stroke_offsets[-1]) - np.repeat(stroke_offsets[:-1], per_sample)
        draw = np.arange(draws)[:, None]
        return counter_uniform(self.seed, epochs, indices, 1 + number, draw)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
