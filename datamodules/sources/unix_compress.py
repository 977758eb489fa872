"""Decoder for files of the Unix program compress (.Z), in which old data sets are handed out."""

from __future__ import annotations

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.files import LARGEST_FILE

MAGIC = b"\x1f\x9d"
_CLEAR = 256
_FIRST_BITS = 9


def uncompress(data: bytes, name: str, limit: int = LARGEST_FILE) -> bytes:
    """Return the contents of a .Z file.

    The format has no length and no checksum, so the loss of its tail cannot always be noticed here:
    whoever reads the text has to check that it is whole.

    Args:
        data: The file.
        name: Its name, for errors.
        limit: Most bytes of the contents.

    Raises:
        DataError: If this is no .Z file, a code in it is impossible, or the contents are longer
            than ``limit``; names the byte offset.

    Source:
        LZW: T. A. Welch, A technique for high-performance data compression, 1984. Three-byte
        header (magic, then maximal code length and the flag of block mode), codes of 9 bits and
        more, lowest bit first, in groups of eight: when codes grow longer or the table is cleared,
        the rest of the group is padding.
    """
    if data[:2] != MAGIC or len(data) < 3:
        raise DataError(
            f"{name}: not a file of the Unix program compress: starts with {data[:3].hex(' ')!r}, "
            f"expected {MAGIC.hex(' ')!r} and a third byte; download it again"
        )
    max_bits, block_mode = data[2] & 0x1F, bool(data[2] & 0x80)
    if not _FIRST_BITS <= max_bits <= 16:
        raise DataError(f"{name}: codes of up to {max_bits} bits at byte 2, expected 9 to 16")
    return _decode(data, name, max_bits, block_mode, limit)


def _decode(data: bytes, name: str, max_bits: int, block_mode: bool, limit: int) -> bytes:
    table = _fresh_table(block_mode)
    out = bytearray()
    previous = b""
    bits = _FIRST_BITS
    base = 3  # first byte of the group of codes that is being read
    read = 0  # bits of it read so far
    while base * 8 + read + bits <= len(data) * 8:
        where = base + read // 8
        window = int.from_bytes(data[where : where + 4], "little")
        code = (window >> (read % 8)) & ((1 << bits) - 1)
        read += bits
        if code == _CLEAR and block_mode:
            table, previous = _fresh_table(block_mode), b""
            base, read, bits = _next_group(base, read, bits), 0, _FIRST_BITS
            continue
        entry = _look_up(table, code, previous, f"{name}: byte {where}")
        out += entry
        if len(out) > limit:  # one code can stand for thousands of bytes
            raise DataError(
                f"{name}: byte {where}: unpacks to more than {limit} bytes: not a file of this "
                "format"
            )
        if previous and len(table) < 1 << max_bits:
            table.append(previous + entry[:1])
        previous = entry
        if len(table) > (1 << bits) - 1 and bits < max_bits:
            base, read, bits = _next_group(base, read, bits), 0, bits + 1
    return bytes(out)


def _look_up(table: list[bytes], code: int, previous: bytes, where: str) -> bytes:
    if code < len(table) and (entry := table[code]):
        return entry
    if code == len(table) and previous:
        return previous + previous[:1]
    raise DataError(
        f"{where}: code {code} where the table has {len(table)} entries: the file is damaged; "
        "download it again"
    )


def _fresh_table(block_mode: bool) -> list[bytes]:
    singles = [bytes([value]) for value in range(256)]
    return [*singles, b""] if block_mode else singles


def _next_group(base: int, read: int, bits: int) -> int:
    """Return the byte after the group of eight codes that holds the last bit read."""
    groups = -(-read // (8 * bits))
    return base + groups * bits
