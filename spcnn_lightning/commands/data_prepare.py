"""Preparing data with a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spcnn_lightning.commands.progress_bar import ProgressBar
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.sources import StrokeSource


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
    bar = ProgressBar(sys.stderr)
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
