"""Damaged files of every format: right data or a `DataError`, soon and in little memory.

SPCNN_FUZZ=10000 sets the number of damaged files for each format (300 if not set).
"""

import gzip
import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules import Shards, StrokeSet, StrokeTemplates
from spcnn_lightning.datamodules.manifest import FIELDS
from spcnn_lightning.datamodules.preparing import prepare
from spcnn_lightning.datamodules.sources.pendigits_text import parse_unipen_digits

resource = pytest.importorskip("resource", reason="limits are those of Unix")

COUNT = int(os.environ.get("SPCNN_FUZZ", "300"))
SECONDS = 2
MEMORY = 200 << 20
UNIPEN = b'.SEGMENT DIGIT 0-1 ? "8"\n.COMMENT 8 12 224\n.PEN_DOWN\n 267 333\n 266 342\n.PEN_UP\n'
UNIPEN += b".PEN_DOWN\n 1 2\n.PEN_UP\n.DT 100\n"
TEMPLATES = {
    "chars": np.array([0x4E00, 0x4E8C], np.uint32),
    "strokes_per_char": np.array([1, 2], np.uint8),
    "points_per_stroke": np.array([2, 2, 3], np.uint16),
    "xy": np.arange(14, dtype=np.int16).reshape(7, 2),
    "canvas": np.array([256, 256], np.int16),
}
TOKENS = (
    *(
        b"-1",
        b"1e999",
        b"9" * 5_000,
        b"NaN",
        b"Infinity",
        b"null",
        b"true",
        b"0x1",
        b"1_0",
        b"\xd9\xa3",
    ),
    *(
        b"[" * 40,
        b"{}",
        b'"',
        b"\\u",
        b",",
        b"&a;",
        b"<!ENTITY a 'b'>",
        b"<!--",
        b"<a>" * 40,
        b"]]>",
    ),
    *(
        b"\xff\xff\xff\xff",
        b"\xff\xff\x00\x00",
        b"\x00" * 4,
        b"\x7f",
        b"\n",
        b"\r\n",
        b" ",
        b"*",
        b"'",
        b"?",
    ),
)


class TooLong(BaseException):
    """Not an Exception, so that no reader can take it for damage."""


@contextmanager
def limits():
    """Let what runs inside take only so much processor time and memory."""

    def stop(*_):
        raise TooLong

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip, replace, insert, delete, repeat or cut off, one to four times."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 30))
        match rng.choice(("flip", "replace", "insert", "delete", "repeat", "cut")):
            case "flip" if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case "replace":
                data[place : place + length] = rng.randbytes(length)
            case "insert":
                data[place:place] = rng.choice((rng.choice(TOKENS), rng.randbytes(length)))
            case "delete":
                del data[place : place + length]
            case "repeat":
                data[place:place] = data[place : place + length] * rng.choice((1, 2, 50))
            case "cut" if rng.random() < 0.3:
                del data[place:]
    return bytes(data)


def read(source):
    """Read the training part, whose labels must be those of classes."""
    strokes = source.train()
    assert strokes.labels.max() < source.num_classes
    return strokes


def check(valid, read_bytes, name):
    """Read damaged forms of valid bytes."""
    assert len(read_bytes(valid))
    rng = random.Random(name)
    outcomes, longest = {"data": 0, "error": 0}, 0
    for number in range(COUNT):
        data = damaged(valid, rng)
        try:
            with limits():
                strokes = read_bytes(data)
                StrokeSet(**{field: getattr(strokes, field) for field in FIELDS})
        except DataError as error:
            outcomes["error"] += 1
            longest = max(longest, len(str(error)))
        except BaseException as error:
            raise AssertionError(f"file {number}: {error!r} on {data!r}") from error
        else:
            outcomes["data"] += 1
    print(name, outcomes)
    assert outcomes["error"], "damage is noticed"
    assert longest < 1_000, "an error is a sentence"


def test_damaged_files_of_every_format(format_name, read_sample, sample_files):
    data = sample_files.SAMPLES[format_name].data
    check(data, lambda data: read(read_sample(format_name, data)), format_name)


def test_damaged_unipen_text():
    check(UNIPEN, lambda data: parse_unipen_digits(data.decode("latin-1"), "a"), "UNIPEN")


def test_a_damaged_gz_file(sample_files, tmp_path):
    lines = sample_files.SAMPLES["canvas lines"]
    target = tmp_path / "train" / "a.ndjson.gz"
    target.parent.mkdir()

    def read_bytes(data):
        target.write_bytes(data)
        return read(lines.source(tmp_path))

    check(gzip.compress(lines.data), read_bytes, "packed")


def test_damaged_templates(tmp_path):
    target = tmp_path / "a.npz"
    np.savez(target, **TEMPLATES)

    def read_bytes(data):
        target.write_bytes(data)
        return read(StrokeTemplates(target))

    check(target.read_bytes(), read_bytes, "templates")


@pytest.mark.parametrize("file", ["manifest.json", "train.labels.npy"])
def test_damaged_shards(file, read_sample, tmp_path):
    prepare(read_sample("canvas lines"), tmp_path / "out", {}, parts=["train"])
    target = tmp_path / "out" / file

    def read_bytes(data):
        target.write_bytes(data)
        return read(Shards(tmp_path / "out"))

    check(target.read_bytes(), read_bytes, file)
