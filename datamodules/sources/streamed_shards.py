"""StreamedShards: what ``spcnn data prepare --format litdata`` wrote, from object storage."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.file_lock import locked
from spcnn_lightning.datamodules.manifest import MANIFEST, Manifest, shard_file
from spcnn_lightning.datamodules.npy_files import file_checksum
from spcnn_lightning.datamodules.sources.shards import Shards

CONTENTS = "contents"
"""Name of the first item, which lists the files that the next ones make up, in order."""


def litdata() -> Any:
    """Return the library.

    Raises:
        DataError: If it is not installed.
    """
    # It would ask a registry for newer versions, whenever a data set is opened.
    os.environ.setdefault("LITDATA_DISABLE_VERSION_CHECK", "1")
    try:
        return importlib.import_module("litdata")
    except ImportError as error:
        raise DataError(
            f"chunks for object storage need the library litdata ({error}): install it by "
            "`pip install 'spcnn-lightning[litdata]'`"
        ) from error


class StreamedShards(Shards):
    """Prepared strokes that lie in object storage.

    Each machine copies them once, chunk by chunk through the library litdata, when Lightning
    prepares the data, compares all checksums, and reads the copy as `Shards` from then on: training
    in random order needs all of it from the beginning. Other data at the same address are copied
    anew, beside what was copied before.

    Args:
        address: ``s3://bucket/folder``, ``gs://...``, ``azure://...``, as litdata takes it, or a
            folder.
        cache_dir: Where the copy lies. None: ``shards`` in ~/.cache/spcnn_lightning.
        verify: Compare all checksums whenever a part is opened, as `Shards` does.

    Raises:
        DataError: When it is first read, if litdata is not installed, nothing can be read there, or
            what arrives is not what was prepared.
    """

    def __init__(self, address: str, cache_dir: str | None = None, verify: bool = True) -> None:
        # Not relative: a worker may run in another folder.
        has_scheme = re.match(r"\w\w+:", str(address))
        self.address = str(address) if has_scheme else os.path.abspath(address)
        self.cache_dir, self.verify = cache_dir, verify

    @cached_property
    def root(self) -> Path:  # type: ignore[override]
        """The folder of the copy, which is made if it is not there."""
        cache = Path(self.cache_dir) if self.cache_dir else default_cache()
        cache.mkdir(parents=True, exist_ok=True)
        # Its own copies of chunks, which are not needed afterwards.
        own = cache / f"chunks-{os.getpid()}"
        with warnings.catch_warnings():
            # The library leaves files to be closed when they are collected.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                return self._copied(_Chunks(self.address, own), cache)
            except OSError as error:
                raise DataError(f"{self.address} cannot be copied to {cache}: {error}") from error
            finally:
                gc.collect()
                shutil.rmtree(own, ignore_errors=True)

    def _copied(self, chunks: _Chunks, cache: Path) -> Path:
        name, text = chunks[0]
        if name != CONTENTS:
            raise chunks.unreadable("it holds something else")
        folder = cache / hashlib.sha256(text).hexdigest()[:16]
        with ExitStack() as held:
            while not (folder / MANIFEST).exists():
                try:
                    held.enter_context(locked(cache / f"{folder.name}.lock"))
                except BlockingIOError:
                    time.sleep(0.5)  # another process copies it
                    continue
                if not (folder / MANIFEST).exists():
                    self._copy(chunks, json.loads(text), folder)
        return folder

    def _copy(self, chunks: _Chunks, contents: dict[str, Any], folder: Path) -> None:
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        manifest = Manifest.from_text(contents["manifest"], self.address)
        checksums = {
            shard_file(partial, part, field): checksum
            for part, shard in manifest.parts.items()
            for field, checksum in shard.sha256.items()
        }
        for number, name in enumerate(contents["files"], 1):
            found, piece = chunks[number]
            if found != name or partial / name not in checksums:
                raise chunks.unreadable(f"piece {number} is of {found!r}, expected {name!r}")
            with (partial / name).open("ab") as file:
                file.write(piece)
        for path, checksum in checksums.items():
            if not path.exists() or file_checksum(path) != checksum:
                raise chunks.unreadable(f"{path.name} is not the one that was prepared")
        manifest.save(partial)
        partial.rename(folder)


class _Chunks:
    """The items of a folder of litdata, in any order."""

    def __init__(self, address: str, cache: Path) -> None:
        self.address, library = address, litdata()
        try:
            # Its length would be the share of one process of several, and cuts slices.
            whole = type("Whole", (library.StreamingDataset,), {"__len__": lambda _: sys.maxsize})
            self.items = whole(address, cache_dir=str(cache), shuffle=False)
        except Exception as error:  # of any of the libraries beneath
            raise self.unreadable(str(error)) from error

    def __getitem__(self, number: int) -> tuple[str, bytes]:
        try:
            # A slice copies whole chunks, which are items here; a number fetches parts of them.
            (item,) = self.items[number : number + 1]
            return item["file"], item["data"]
        except Exception as error:
            raise self.unreadable(f"{type(error).__name__}: {error}") from error

    def unreadable(self, reason: str) -> DataError:
        return DataError(
            f"{self.address} cannot be read ({reason[:500]}): give the folder that `spcnn data "
            "prepare --format litdata` has written, or where a copy of it lies"
        )


def default_cache() -> Path:
    """Return the folder of copies, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "spcnn_lightning" / "shards"
