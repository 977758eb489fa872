"""Taking validation data from the training part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.datamodules.characters import LabelledSamples
from spcnn_lightning.datamodules.randomness import seeded_order

Integers = NDArray[np.int64]

_SPLIT_STREAM = 0x73706C6974  # keeps splits independent of orders and augmentation


def split_validation(
    samples: LabelledSamples[Any],
    fraction: float = 0.1,
    writers: list[int] | None = None,
    seed: int = 0,
) -> tuple[Integers, Integers]:
    """Return the indices kept for training and those held out, each in rising order.

    Where writers are known, whole writers are held out: new people are what a recogniser meets.
    Otherwise samples are drawn at random, and the validation error is optimistic.

    Args:
        samples: The training part.
        fraction: Share of the samples to hold out, at least; 0 for none. Writers are taken in
            a seeded order until the share is reached.
        writers: These writers exactly, in place of ``fraction``.
        seed: Decides the order; the same split for the same seed.

    Raises:
        ValueError: If ``fraction`` is not in [0, 1), a writer is not in the set, ``writers`` are
            given where none are known, or nothing would be left to train on.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"validation_fraction is {fraction}, expected 0 to less than 1")
    if writers is not None:
        held_out = _by_named_writers(samples, writers)
    elif fraction == 0:
        held_out = np.zeros(len(samples), bool)
    elif samples.writers is not None:
        held_out = _by_drawn_writers(samples.writers, fraction, seed)
    else:
        held_out = np.zeros(len(samples), bool)
        order = seeded_order(len(samples), seed, _SPLIT_STREAM)
        held_out[order[: int(np.ceil(fraction * len(samples)))]] = True
    if held_out.all():
        raise ValueError(
            f"all {len(samples)} training samples would be held out for validation: lower "
            "validation_fraction or name fewer validation_writers"
        )
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _by_named_writers(samples: LabelledSamples[Any], writers: list[int]) -> NDArray[np.bool_]:
    if samples.writers is None:
        raise ValueError(
            f"validation_writers is {writers}, but these data do not say who wrote what: use "
            "validation_fraction"
        )
    known = set(np.unique(samples.writers).tolist())
    if unknown := sorted(set(writers) - known):
        raise ValueError(f"validation_writers {unknown} are not among the writers {sorted(known)}")
    return np.isin(samples.writers, writers)


def _by_drawn_writers(writers: NDArray[np.int32], fraction: float, seed: int) -> NDArray[np.bool_]:
    people, counts = np.unique(writers, return_counts=True)
    order = seeded_order(len(people), seed, _SPLIT_STREAM)
    before = np.cumsum(counts[order]) - counts[order]
    return np.isin(writers, people[order[before < fraction * len(writers)]])
