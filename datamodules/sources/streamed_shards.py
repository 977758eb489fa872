"""StreamedShards: what ``spcnn data prepare --format litdata`` wrote, from object storage."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.manifest import Manifest
from spcnn_lightning.datamodules.sources.base import OnDamage, Piece
from spcnn_lightning.datamodules.sources.shards import PreparedSource, require_part
from spcnn_lightning.datamodules.strokes import StrokeSet, offsets_of

ABOUT = "about"
"""Folder of one item that holds the manifest, and the labels and writers of all parts."""
OF_STROKES = ("points", "point_offsets", "time", "pressure")
"""What the item of a character may hold, by the names of a `StrokeSet`."""
_AT_A_TIME = 1_024


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


class StreamedShards(PreparedSource):
    """Prepared strokes that lie in object storage, read through the library litdata.

    What a process reads is copied to ``cache_dir``, a file of about 16 MB at a time, and read from
    there until the space is needed. Training in random order soon has asked for all of them, so a
    machine copies a data set once, while it trains, if the cache holds it. Batches are those of
    `Shards`. Labels and writers are held in memory.

    Args:
        root: The folder, or its address: ``s3://bucket/folder``, ``gs://...``, ``azure://...``, as
            litdata takes it. ``local:/folder`` is copied like a remote one.
        cache_dir: Where copies lie. None: where litdata puts them.
        max_cache_size: Most bytes of copies, such as "50GB". None: three quarters of the disk's
            free space.

    Raises:
        DataError: When it is first read, if litdata is not installed, or there is no such folder.
    """

    def __init__(
        self, root: str, cache_dir: str | None = None, max_cache_size: str | None = None
    ) -> None:
        self.root = str(root).rstrip("/")
        self.cache_dir, self.max_cache_size = cache_dir, max_cache_size

    @cached_property
    def manifest(self) -> Manifest:  # type: ignore[override]
        """What the folder holds."""
        return Manifest.from_text(self._about["manifest"], f"{self.root}/{ABOUT}")

    @cached_property
    def _about(self) -> dict[str, Any]:
        found: dict[str, Any] = self._chunks(ABOUT)[0]
        return found

    def _chunks(self, name: str) -> _Chunks:
        return _Chunks(f"{self.root}/{name}", self.cache_dir, self.max_cache_size)

    def check(self) -> None:
        """Raise `DataError` if the folder cannot be read."""
        _ = self.manifest

    def train(self) -> StrokeSet:
        """Return the training part, in memory."""
        return self._whole("train")

    def test(self) -> StrokeSet:
        """Return the test part, in memory."""
        return self._whole("test")

    def characters(self, part: str) -> StreamedCharacters:
        """Return a part as a sequence; nothing but labels and writers is in memory."""
        require_part(self.manifest, part, self.root)
        labels, writers = self._about[f"{part}.labels"], self._about.get(f"{part}.writers")
        return StreamedCharacters(self._chunks(part), labels, writers)

    def pieces(self, part: str) -> Sequence[Piece]:
        """Return a piece for each thousand characters."""
        characters = self.characters(part)
        starts = range(0, len(characters), _AT_A_TIME)
        return [
            Piece(f"{part} from {start}", partial(_some, characters, start)) for start in starts
        ]

    def _whole(self, part: str) -> StrokeSet:
        characters = self.characters(part)
        return characters.select(np.arange(len(characters)))


class StreamedCharacters:
    """One part, read when it is asked for.

    Args:
        chunks: Hold an item for each character.
        labels: int64, shape (B,).
        writers: int32, shape (B,), if known.
    """

    def __init__(
        self, chunks: _Chunks, labels: NDArray[np.int64], writers: NDArray[np.int32] | None
    ) -> None:
        self.chunks, self.labels, self.writers = chunks, labels, writers

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: ArrayLike) -> StrokeSet:
        """Return the characters at ``indices``, in that order; repeats are allowed."""
        chosen = np.asarray(indices, np.int64).reshape(-1)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(
                f"characters {chosen.min()} to {chosen.max()} asked of a set of {len(self)}"
            )
        items = [self.chunks[number] for number in chosen.tolist()]
        joined = {
            name: np.concatenate([item[name] for item in items])
            for name in OF_STROKES
            if name != "point_offsets" and items and name in items[0]
        }
        lengths = [np.diff(item["point_offsets"]) for item in items]
        return StrokeSet(
            joined.get("points", np.zeros((0, 2), np.float32)),
            offsets_of(np.concatenate([np.zeros(0, np.int64), *lengths])),
            offsets_of([len(strokes) for strokes in lengths]),
            self.labels[chosen],
            None if self.writers is None else self.writers[chosen],
            joined.get("time"),
            joined.get("pressure"),
            validate=False,
        )


class _Chunks:
    """The items of a folder of litdata, in any order; each process opens it for itself.

    Threads of the library copy files, and do not survive a fork.
    """

    def __init__(self, root: str, cache_dir: str | None, max_cache_size: str | None) -> None:
        self.root, self.cache_dir, self.max_cache_size = root, cache_dir, max_cache_size
        self._opened: tuple[int, Any] | None = None

    def __getitem__(self, number: int) -> Any:
        try:
            # A slice of one: for a single number the library fetches single items, and keeps none.
            return self._open()[number : number + 1][0]
        except (OSError, ValueError, RuntimeError) as error:
            raise DataError(
                f"{self.root} cannot be read ({str(error)[:300]}): give the folder, or its "
                "address, that `spcnn data prepare --format litdata` has written"
            ) from error

    def _open(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            chunks = litdata().StreamingDataset(
                self.root,
                cache_dir=self.cache_dir,
                max_cache_size=self.max_cache_size,
                shuffle=False,
                drop_last=False,
            )
            self._opened = (os.getpid(), chunks)
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": None}


def _some(characters: StreamedCharacters, start: int, on_damage: OnDamage) -> Iterator[StrokeSet]:
    yield characters.select(np.arange(start, min(start + _AT_A_TIME, len(characters))))
