"""Preparing data with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.preparing import Progress, prepare
from spcnn_lightning.datamodules.sources import StrokeSource

WIDTH = 30


def prepare_with_progress(
    source: StrokeSource,
    description: Mapping[str, Any],
    out: Path,
    parts: Sequence[str],
    skip_damaged: bool,
) -> None:
    """Prepare a source and say on the screen how far it is and what came of it.

    Raises:
        DataError: As `prepare`, or if ``out`` cannot be written.
    """
    bar = _Bar(sys.stderr)
    try:
        manifest = prepare(
            source, out, description, parts=parts, skip_damaged=skip_damaged, report=bar.show
        )
    except OSError as error:
        raise DataError(f"cannot prepare {out}: {error}") from error
    finally:
        bar.end_line()
    for part, shard in manifest.parts.items():
        print(f"{part}: {shard.characters:,} characters, {shard.points:,} points")
    if manifest.num_left_out:
        print(f"left out as damaged: {manifest.num_left_out:,} records, listed in manifest.json")
    print(f"written: {out}")
    print(f"in a config: source: {{class_path: Shards, init_args: {{root: {out}}}}}")


class _Bar:
    """One line for each part, drawn again and again; in a file, one line for each tenth."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.redraws = stream, stream.isatty()
        self.part = ""
        self.tenth = -1
        self.open_line = False

    def show(self, progress: Progress) -> None:
        if progress.message:
            self.end_line()
            print(f"left out: {progress.message}", file=self.stream)
            return
        share = progress.done / progress.total
        if progress.part != self.part:
            self.end_line()
            self.part, self.tenth = progress.part, -1
        if self.redraws or int(10 * share) > self.tenth:
            self.tenth = int(10 * share)
            bar = ("#" * int(WIDTH * share)).ljust(WIDTH, "-")
            text = f"{self.part:5} {bar} {share:4.0%}  {progress.characters:,} characters"
            print(f"\r{text}" if self.redraws else text, end="", file=self.stream, flush=True)
            self.open_line = True
            if not self.redraws:
                self.end_line()

    def end_line(self) -> None:
        if self.open_line:
            print(file=self.stream)
        self.open_line = False
