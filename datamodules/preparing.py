"""Preparing: any source into a folder of memory-mapped shards, in bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.file_lock import locked
from spcnn_lightning.datamodules.manifest import FIELDS, Manifest, Shard, shard_file
from spcnn_lightning.datamodules.npy_files import GrowingArray, file_checksum
from spcnn_lightning.datamodules.sources.base import PARTS, Piece, StrokeSource
from spcnn_lightning.datamodules.strokes import StrokeSet

JOURNAL = "journal.json"
MOST_MESSAGES = 1_000
"""So many messages about what was left out are kept; the rest are counted."""


class Progress(NamedTuple):
    """How far preparing has come.

    Args:
        part: Being prepared.
        done: Pieces of it that are done.
        total: Pieces that it has.
        characters: Prepared so far.
        message: What was left out just now, or "".
    """

    part: str
    done: int
    total: int
    characters: int
    message: str = ""


@dataclass
class _Journal:
    """What is safely on disk; a run that was broken off goes on from here."""

    origin: str
    pieces: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    fields: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    num_left_out: int = 0
    digests: dict[str, dict[str, int]] = field(default_factory=dict)  # of all messages, by part

    def leave_out(self, part: str, message: str) -> bool:
        """Note what was left out; False if it was in another part: a file may hold both."""
        digest = hashlib.sha256(message.encode()).hexdigest()[:16]
        if any(digest in noted for name, noted in self.digests.items() if name != part):
            return False
        self.digests.setdefault(part, {})[digest] = 1
        self.num_left_out += 1
        if len(self.left_out) < MOST_MESSAGES:
            self.left_out.append(message)
        return True

    def save(self, folder: Path) -> None:
        fresh = folder / f"{JOURNAL}.new"
        fresh.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(fresh, folder / JOURNAL)


def prepare(
    source: StrokeSource,
    out: Path,
    description: Mapping[str, Any],
    *,
    parts: Sequence[str] = PARTS,
    skip_damaged: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> Manifest:
    """Write the parts of a source into the folder ``out``, from which `Shards` reads them.

    Until all is done the folder is called ``<out>.partial``. A run that was broken off goes on
    after the last piece that it finished, when it is started again with the same arguments.

    Args:
        source: Its pieces are read one after the other.
        out: Must not exist yet, or be empty.
        description: Says in the manifest what the source is; in plain types.
        parts: Which to write.
        skip_damaged: Leave damaged records out, and list them, instead of stopping.
        report: Is told after each piece and each record left out.

    Raises:
        DataError: If a record is damaged, a part is empty, some characters only have writers, time
            or pressure, ``out`` holds something, ``<out>.partial`` was begun otherwise, or another
            process prepares the same folder at this moment.
    """
    source.check()
    with alone_at(out):
        return _prepare(source, out, description, parts, skip_damaged, report)


@contextmanager
def alone_at(out: Path) -> Iterator[None]:
    """Make the folder's parents, and keep other processes from preparing it at the same time.

    Raises:
        DataError: If another process prepares it, or it holds something.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    lock = out.with_name(f"{out.name}.lock")
    with ExitStack() as held:
        try:
            held.enter_context(locked(lock))
        except BlockingIOError as error:
            raise DataError(
                f"{out} is being prepared by another process, which holds {lock}: wait for its "
                "end, or give another --out"
            ) from error
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise DataError(f"{out} holds something already: give a new folder as --out")
        yield


def _prepare(
    source: StrokeSource,
    out: Path,
    description: Mapping[str, Any],
    parts: Sequence[str],
    skip_damaged: bool,
    report: Callable[[Progress], None],
) -> Manifest:
    """Do what `prepare` says, while no other process does."""
    pieces = {part: source.pieces(part) for part in parts}
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(exist_ok=True)
    journal = _open_journal(partial, origin_of(description, source, pieces))
    for part in parts:
        _write_part(part, pieces[part], source.num_classes, journal, partial, skip_damaged, report)
    manifest = Manifest(
        dict(description),
        tuple(source.class_names),
        source.citation,
        source.licence_text,
        {part: _shard(part, journal, partial) for part in parts},
        tuple(journal.left_out),
        journal.num_left_out,
    )
    manifest.save(partial)
    (partial / JOURNAL).unlink()
    if out.exists():
        out.rmdir()
    partial.rename(out)
    return manifest


def origin_of(
    description: Mapping[str, Any], source: StrokeSource, pieces: Mapping[str, Sequence[Piece]]
) -> str:
    """Return a hash of what is prepared."""
    read = {part: [(piece.name, piece.stamp) for piece in some] for part, some in pieces.items()}
    facts = json.dumps([dict(description), list(source.class_names), read], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()


def _open_journal(folder: Path, origin: str) -> _Journal:
    path = folder / JOURNAL
    if not path.exists():
        # One that was broken off before its first piece holds the beginnings of files alone.
        if any(entry.suffix not in (".npy", ".new") for entry in folder.iterdir()):
            raise DataError(
                f"{folder} holds something else, maybe of another --format that was broken off: "
                "delete it, or give another --out"
            )
        return _Journal(origin)
    try:
        journal = _Journal(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}): delete {folder} and begin again") from error
    if journal.origin != origin:
        raise DataError(
            f"{folder} was begun with another source, other arguments or other files: delete it, "
            "or give another --out"
        )
    return journal


def _write_part(
    part: str,
    pieces: Sequence[Piece],
    num_classes: int,
    journal: _Journal,
    folder: Path,
    skip_damaged: bool,
    report: Callable[[Progress], None],
) -> None:
    def on_damage(error: DataError) -> None:
        if not skip_damaged:
            raise error
        if journal.leave_out(part, str(error)):
            report(Progress(part, done, len(pieces), writer.counts["characters"], str(error)))

    with closing(_ShardWriter(folder, part, journal, num_classes)) as writer:
        first = journal.pieces.get(part, 0)
        for done in range(first, len(pieces)):
            for strokes in pieces[done].read(on_damage):
                writer.append(strokes)
            writer.commit(done + 1)
            report(Progress(part, done + 1, len(pieces), writer.counts["characters"]))
    if not writer.counts["characters"]:
        raise DataError(f"the {part} part holds no character: is this the right folder?")


class _ShardWriter:
    """Adds sets of characters to the files of one part."""

    def __init__(self, folder: Path, part: str, journal: _Journal, num_classes: int) -> None:
        self.folder, self.part, self.journal = folder, part, journal
        self.num_classes = num_classes
        self.counts = {
            name: journal.counts.get(part, {}).get(name, 0)
            for name in ("points", "strokes", "characters")
        }
        self.files: dict[str, GrowingArray] = {}
        if self.counts["characters"]:
            self._open(journal.fields[part])

    def append(self, strokes: StrokeSet) -> None:
        """Add characters; those of one part have the same fields."""
        if not len(strokes):
            return
        present = [name for name in FIELDS if getattr(strokes, name) is not None]
        if not self.files:
            self._open(present)
        if present != list(self.files):
            differing = sorted(set(present) ^ set(self.files))
            raise DataError(
                f"only some characters of the {self.part} part have {' and '.join(differing)}: "
                "prepare them separately, or have the source leave it out"
            )
        if strokes.labels.max() >= self.num_classes:
            raise DataError(f"label {strokes.labels.max()} of {self.num_classes} classes")
        self.files["point_offsets"].append(strokes.point_offsets[1:] + self.counts["points"])
        self.files["stroke_offsets"].append(strokes.stroke_offsets[1:] + self.counts["strokes"])
        for name in present:
            if name not in ("point_offsets", "stroke_offsets"):
                self.files[name].append(getattr(strokes, name))
        self.counts["points"] += len(strokes.points)
        self.counts["strokes"] += len(strokes.point_offsets) - 1
        self.counts["characters"] += len(strokes)

    def commit(self, pieces: int) -> None:
        """Write down that so many pieces are on disk."""
        for file in self.files.values():
            file.sync()
        self.journal.pieces[self.part] = pieces
        self.journal.counts[self.part] = dict(self.counts)
        self.journal.fields[self.part] = list(self.files)
        self.journal.save(self.folder)

    def close(self) -> None:
        """Close the files."""
        for file in self.files.values():
            file.close()

    def _open(self, names: Sequence[str]) -> None:
        for name in names:
            form, begun = FIELDS[name], self.counts["characters"] > 0
            rows = self.counts[form.counts] + form.extra if begun else 0
            path = shard_file(self.folder, self.part, name)
            self.files[name] = GrowingArray(path, form.dtype, form.row_shape, rows)
            if form.extra and not begun:
                self.files[name].append(np.zeros(1, np.int64))


def _shard(part: str, journal: _Journal, folder: Path) -> Shard:
    checksums = {n: file_checksum(shard_file(folder, part, n)) for n in journal.fields[part]}
    return Shard(**journal.counts[part], sha256=checksums)
