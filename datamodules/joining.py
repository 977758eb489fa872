"""Joining sets of characters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of

OPTIONAL_FIELDS = ("writers", "time", "pressure")
"""What a data set may lack; then all of its characters do."""


def empty_set() -> StrokeSet:
    """Return a set of no characters, without writers, time and pressure."""
    return StrokeSet(np.zeros((0, 2), np.float32), offsets_of([]), offsets_of([]), np.zeros(0, int))


def concatenate(sets: Iterable[StrokeSet]) -> StrokeSet:
    """Join sets in the given order; sets without characters do not count.

    Raises:
        ValueError: If only some of them have writers, time or pressure.
    """
    parts = [part for part in sets if len(part)]
    if not parts:
        return empty_set()
    for name in OPTIONAL_FIELDS:
        missing = sum(getattr(part, name) is None for part in parts)
        if missing not in (0, len(parts)):
            raise ValueError(
                f"{missing} of {len(parts)} sets have no {name}: give it to all or to none"
            )

    def joined(name: str) -> Any:
        if getattr(parts[0], name) is None:
            return None
        return np.concatenate([getattr(part, name) for part in parts])

    return StrokeSet(
        joined("points"),
        _joined_offsets([part.point_offsets for part in parts]),
        _joined_offsets([part.stroke_offsets for part in parts]),
        joined("labels"),
        joined("writers"),
        joined("time"),
        joined("pressure"),
        validate=False,
    )


def _joined_offsets(offsets: list[np.ndarray]) -> np.ndarray:
    return offsets_of(np.concatenate([np.diff(part) for part in offsets]))
