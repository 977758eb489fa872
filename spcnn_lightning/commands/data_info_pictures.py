"""Counting the pictures of a source, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.parts import check_labels
from spcnn_lightning.datamodules.pictures import PictureSource
from spcnn_lightning.datamodules.preparing import Progress

AT_ONCE = 256
"""Pictures that are in memory together."""


def describe_pictures(
    source: PictureSource, part: str, report: Callable[[Progress], None] = lambda _: None
) -> str:
    """Return the counts and sizes of a part in words.

    Args:
        source: All its pictures are read.
        part: "train" or "test".
        report: Is told from time to time.

    Raises:
        DataError: If it holds nothing, or a label beyond the classes of the source.
    """
    pictures = source.train() if part == "train" else source.test()
    if not len(pictures):
        raise DataError(f"the {part} part holds no picture")
    check_labels(pictures.labels, source)
    sizes, blank = [], 0
    blocks = range(0, len(pictures), AT_ONCE)
    background = np.asarray(source.background, float)
    for done, start in enumerate(blocks, start=1):
        some = pictures.select(range(start, min(start + AT_ONCE, len(pictures))))
        sizes += [picture.shape[:2] for picture in some]
        own = [p[..., -1] if source.masked else p != background for p in some]
        blank += sum(not inside.any() for inside in own)
        report(Progress(part, done, len(blocks), start + len(some)))
    low, high = (np.array(sizes).min(0), np.array(sizes).max(0))
    size = f"{low[0]} x {low[1]}"
    if (low != high).any():
        size += f" to {high[0]} x {high[1]}"
    used = np.bincount(pictures.labels)
    used = used[used > 0]
    people = "writers not known"
    if pictures.writers is not None:
        people = f"{len(np.unique(pictures.writers)):,} writers"
    nothing = f", {blank:,} of background alone" if blank else ""
    return (
        f"{len(pictures):,} pictures of {len(used):,} classes ({used.min():,} to {used.max():,} "
        f"each), {size} pixels of {pictures.channels} channels, {people}{nothing}"
    )
