"""Preparing data with a progress bar."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spcnn_lightning.commands.progress_bar import ProgressBar
from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.preparing_chunks import prepare_chunks
from spcnn_lightning.datamodules.sources import StrokeSource

PREPARE = {"shards": prepare, "litdata": prepare_chunks}
READERS = {"shards": ("Shards", "root"), "litdata": ("StreamedShards", "address")}


def prepare_with_progress(
    source: StrokeSource,
    description: Mapping[str, Any],
    out: Path,
    parts: Sequence[str],
    skip_damaged: bool,
    form: str = "shards",
) -> None:
    """Prepare a source and say on the screen how far it is and what came of it.

    ``form`` is "shards", or "litdata": chunks for object storage.

    Raises:
        DataError: As `prepare`, or if ``out`` cannot be written.
    """
    if re.match(r"\w\w+:", str(out)):
        raise DataError(
            f"--out {out} is an address: give a folder, and copy it there, by `aws s3 sync` say"
        )
    bar = ProgressBar(sys.stderr)
    try:
        manifest = PREPARE[form](
            source, out, description, parts=parts, skip_damaged=skip_damaged, report=bar.show
        )
    except OSError as error:
        raise DataError(f"cannot prepare {out}: {error}") from error
    finally:
        bar.end_line()
    for part, shard in manifest.parts.items():
        print(f"{part}: {shard.characters:,} characters, {shard.points:,} points")
    if manifest.num_left_out:
        print(f"left out as damaged: {manifest.num_left_out:,} records, listed in the manifest")
    print(f"written: {out}")
    reader, argument = READERS[form]
    print(f"in a config: source: {{class_path: {reader}, init_args: {{{argument}: {out}}}}}")
