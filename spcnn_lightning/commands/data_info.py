"""Counting what a source holds, in bounded memory."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from spcnn_lightning.commands.data_info_pictures import describe_pictures
from spcnn_lightning.commands.progress_bar import ProgressBar
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.joining import OPTIONAL_FIELDS
from spcnn_lightning.datamodules.parts import check_labels
from spcnn_lightning.datamodules.pictures import PictureSource
from spcnn_lightning.datamodules.preparing import Progress
from spcnn_lightning.datamodules.sources import Shards, StrokeSource
from spcnn_lightning.datamodules.sources.base import refuse

SHOWN_NAMES = 12


def print_info(source: StrokeSource | PictureSource, parts: Sequence[str]) -> None:
    """Print what a source is and, for each part, what it holds.

    Raises:
        DataError: If data are missing or damaged.
    """
    names = source.class_names
    dots = ", ..." if len(names) > SHOWN_NAMES else ""
    print(f"{type(source).__name__}: {source.citation}")
    if source.licence_text:
        print(f"licence: {source.licence_text.strip().splitlines()[0]} ...")
    print(f"{len(names):,} classes: {', '.join(names[:SHOWN_NAMES])}{dots}")
    for part in parts:
        if isinstance(source, Shards) and part not in source.manifest.parts:
            print(f"{part}: none")
            continue
        pictures = isinstance(source, PictureSource)
        bar = ProgressBar(sys.stderr, "pictures" if pictures else "characters")
        try:
            if isinstance(source, PictureSource):
                described = describe_pictures(source, part, bar.show)
            else:
                described = describe_part(source, part, bar.show)
        finally:
            bar.end_line()
        print(f"{part}: {described}")
    if isinstance(source, Shards) and source.manifest.num_left_out:
        print(f"left out as damaged: {source.manifest.num_left_out:,} records")
        for message in source.manifest.left_out:
            print(f"  {message}")


def describe_part(
    source: StrokeSource, part: str, report: Callable[[Progress], None] = lambda _: None
) -> str:
    """Return the counts of a part in words.

    Args:
        source: Its pieces are read one after the other.
        part: "train" or "test".
        report: Is told after each piece.

    Raises:
        DataError: If it holds nothing, or a label beyond the classes of the source.
    """
    per_class = np.zeros(source.num_classes, np.int64)
    strokes = points = 0
    writers: set[int] = set()
    recorded: Counter[str] = Counter()  # characters that have it
    pieces = source.pieces(part)
    for done, piece in enumerate(pieces, start=1):
        for some in piece.read(refuse):
            check_labels(some.labels, source)
            per_class += np.bincount(some.labels, minlength=len(per_class))
            strokes += len(some.point_offsets) - 1
            points += len(some.points)
            if some.writers is not None:
                writers.update(np.unique(some.writers).tolist())
            for name in OPTIONAL_FIELDS:
                recorded[name] += len(some) if getattr(some, name) is not None else 0
        report(Progress(part, done, len(pieces), int(per_class.sum())))
    characters = int(per_class.sum())
    if not characters:
        raise DataError(f"the {part} part holds no character")
    used = per_class[per_class > 0]

    def partly(name: str) -> str:
        having = recorded[name]
        return "" if having == characters else f" (of {having:,} of {characters:,} characters)"

    people = f"{len(writers):,} writers{partly('writers')}" if writers else "writers not known"
    also = [f", {name}{partly(name)}" for name in ("pressure", "time") if recorded[name]]
    return (
        f"{characters:,} characters of {len(used):,} classes ({used.min():,} to {used.max():,} "
        f"each), {strokes / characters:.2f} strokes and {points / characters:.1f} points a "
        f"character, {people}{''.join(also)}"
    )
