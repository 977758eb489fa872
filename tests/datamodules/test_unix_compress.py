import gzip
import random
import shutil
import subprocess

import pytest

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.pendigits import read_text
from spcnn_lightning.datamodules.sources.unix_compress import uncompress


class Compressor:
    """A plain writer of .Z files: codes in groups of eight, padded when their length changes."""

    def __init__(self, max_bits: int = 16, clear_at: int | None = None):
        self.max_bits, self.clear_at = max_bits, clear_at
        self.out = bytearray(b"\x1f\x9d" + bytes([0x80 | max_bits]))
        self.group: list[int] = []
        self.bits = 9

    def flush(self, full: bool):
        value = sum(code << (i * self.bits) for i, code in enumerate(self.group))
        size = self.bits if full else -(-len(self.group) * self.bits // 8)
        self.out += value.to_bytes(self.bits, "little")[:size]
        self.group = []

    def put(self, code: int):
        self.group.append(code)
        if len(self.group) == 8:
            self.flush(full=True)

    def change_bits(self, bits: int):
        if self.group:
            self.flush(full=True)
        self.bits = bits

    def run(self, data: bytes) -> bytes:
        table = {bytes([i]): i for i in range(256)}
        next_code, prefix = 257, b""
        for position, value in enumerate(data):
            longer = prefix + bytes([value])
            if longer in table:
                prefix = longer
                continue
            self.put(table[prefix])
            if next_code < 1 << self.max_bits:
                table[longer] = next_code
                next_code += 1
                # The reader's table is one entry behind, so it widens one code later.
                if next_code - 1 > (1 << self.bits) - 1 and self.bits < self.max_bits:
                    self.change_bits(self.bits + 1)
            if self.clear_at and position % self.clear_at == self.clear_at - 1:
                self.put(256)
                self.change_bits(9)
                table, next_code = {bytes([i]): i for i in range(256)}, 257
            prefix = bytes([value])
        if prefix:
            self.put(table[prefix])
        if self.group:
            self.flush(full=False)
        return bytes(self.out)


def samples():
    numbers = random.Random(1)
    yield "empty", b""
    yield "one byte", b"x"
    yield "runs", b"a" * 5000
    yield "text", " ".join(str(numbers.randrange(500)) for _ in range(20_000)).encode()
    yield "noise", numbers.randbytes(30_000)


@pytest.mark.parametrize("clear_at", [None, 700])
@pytest.mark.parametrize("max_bits", [9, 12, 16])
@pytest.mark.parametrize(("name", "data"), list(samples()), ids=[n for n, _ in samples()])
def test_a_round_trip_changes_nothing(name, data, max_bits, clear_at):
    assert uncompress(Compressor(max_bits, clear_at).run(data), name) == data


@pytest.mark.skipif(shutil.which("gzip") is None, reason="gzip, which unpacks .Z too, is not here")
@pytest.mark.parametrize("clear_at", [None, 700])
def test_gzip_reads_what_the_test_writes(tmp_path, clear_at):
    """The compressor above shares no author with gzip: both readers agree on the format."""
    for name, data in samples():
        path = tmp_path / "a.Z"
        path.write_bytes(Compressor(16, clear_at).run(data))
        result = subprocess.run(["gzip", "-dc", str(path)], capture_output=True, check=True)
        assert result.stdout == data, name


def test_the_real_strokes_survive_z(pendigits_root, tmp_path):
    source = next(pendigits_root.glob("pendigits-orig.tes*"))
    text = read_text(source)[:200_000]
    path = tmp_path / "a.Z"
    path.write_bytes(Compressor().run(text.encode()))
    assert read_text(path) == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a file of the Unix program compress"),
        (b"\x1f\x9d", "not a file of the Unix program compress"),
        (gzip.compress(b"text", mtime=0), "starts with '1f 8b 08'"),
        (b"\x1f\x9d\x88", "codes of up to 8 bits at byte 2"),
        (b"\x1f\x9d\x91", "codes of up to 17 bits at byte 2"),
        (b"\x1f\x9d\x90\x61\xfe\xff", "byte 4: code 511 where the table has 257 entries"),
    ],
)
def test_a_damaged_header_or_code_is_an_error(data, message):
    with pytest.raises(DataError, match=message):
        uncompress(data, "some.Z")


def test_a_bomb_is_refused():
    """A file of 2,000 bytes may stand for millions; it is not unpacked."""
    packed = Compressor().run(b"a" * 1_000_000)
    assert len(packed) < 3_000
    assert len(uncompress(packed, "some.Z", limit=1_000_000)) == 1_000_000
    with pytest.raises(DataError, match=r"some.Z: byte \d+: unpacks to more than 999999 bytes"):
        uncompress(packed, "some.Z", limit=999_999)


def test_a_cut_file_gives_a_beginning_of_the_data():
    data = dict(samples())["text"][:3000]
    packed = Compressor().run(data)
    for end in range(3, len(packed), 7):
        assert data.startswith(uncompress(packed[:end], "some.Z"))


def test_a_flipped_bit_gives_other_data_or_an_error():
    data = dict(samples())["text"][:2000]
    packed = Compressor().run(data)
    for place in range(3, len(packed) - 2, 11):
        damaged = packed[:place] + bytes([packed[place] ^ 0x10]) + packed[place + 1 :]
        try:
            assert uncompress(damaged, "some.Z") != data
        except DataError as error:
            assert "some.Z: byte" in str(error)  # noqa: PT017  # either outcome is right
