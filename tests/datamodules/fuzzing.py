"""Damages files and reads them within limits of time and memory; loaded by conftest.py.

SPCNN_FUZZ=10000 sets the number of damaged files for each format (300 if not set).
"""

import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from spcnn_lightning.core.errors import DataError

resource = pytest.importorskip("resource", reason="limits are those of Unix")

COUNT = int(os.environ.get("SPCNN_FUZZ", "300"))
SECONDS = 2
MEMORY = 200 << 20
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


def check(valid, read_bytes, name):
    """Read damaged forms of valid bytes; ``read_bytes`` checks what it returns."""
    assert len(read_bytes(valid))
    rng = random.Random(name)
    outcomes, longest = {"data": 0, "error": 0}, 0
    for number in range(COUNT):
        data = damaged(valid, rng)
        try:
            with limits():
                read_bytes(data)
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
