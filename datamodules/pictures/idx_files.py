"""Files in the idx format: an array of bytes after a big-endian header.

====== =========== ================================================================
offset type        meaning
====== =========== ================================================================
0      4 bytes     0, 0, 8 for unsigned bytes, number of axes D
4      D of uint32 length of each axis
4+4D   bytes       the array, last axis fastest
====== =========== ================================================================

Source:
    Y. LeCun, C. Cortes, The MNIST database of handwritten digits, section "File formats".
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError
from spcnn_lightning.datamodules.sources.files import open_file

DEFLATE_RATIO = 1032
"""A byte of a .gz gives at most so many: D. Adler, zlib technical details."""

LARGEST_UNPACKED = 1 << 30
"""Most bytes of an array in a .gz; EMNIST has 547 million."""

LONGEST_SIDE = 1 << 14
_BLOCK = 1 << 20


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """Return the array of a plain or .gz file; no more is read than its header states.

    Args:
        path: The file.
        axes: How many axes the array must have: 3 for pictures, 1 for labels.

    Raises:
        DataError: If the header is not that of such an array, or the file is longer or shorter than
            it says.
    """
    try:
        with open_file(path) as file:
            shape = _read_shape(file, path, axes)
            start, size = 4 + 4 * axes, math.prod(shape)
            # Known before anything is read, so that a wrong header cannot ask for memory.
            in_file = most = path.stat().st_size
            if path.suffix == ".gz":
                most = min(in_file * DEFLATE_RATIO, LARGEST_UNPACKED)
            if start + size > most:
                raise DataError(
                    f"{path}: byte 4: shape {shape}, {size} bytes, where a file of {in_file} holds "
                    f"at most {most}: it is cut off or damaged"
                )
            data = _read(file, size)
            if len(data) < size:
                raise DataError(
                    f"{path}: byte {start + len(data)}: the end, expected {size - len(data)} more "
                    f"bytes for shape {shape}: the file is cut off"
                )
            if file.read(1):
                raise DataError(
                    f"{path}: byte {start + size}: expected the end after shape {shape}: the "
                    "header or the file is damaged"
                )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}; get the file again") from error
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_shape(file: BinaryIO, path: Path, axes: int) -> tuple[int, ...]:
    magic = bytes([0, 0, 8, axes])
    header = file.read(4 + 4 * axes)
    if header[:4] != magic or len(header) < 4 + 4 * axes:
        raise DataError(
            f"{path}: byte 0: a header of {header[:4].hex(' ') or 'no bytes'}, expected "
            f"{magic.hex(' ')} and {axes} lengths: not an idx file of bytes with {axes} axes"
        )
    shape = struct.unpack(f">{axes}I", header[4:])
    if not all(shape) or max(shape[1:], default=1) > LONGEST_SIDE:
        raise DataError(
            f"{path}: byte 4: shape {shape}, expected no 0 and sides of at most {LONGEST_SIDE}"
        )
    return shape


def _read(file: BinaryIO, size: int) -> bytearray:
    """Return ``size`` bytes, or fewer at the end of the file."""
    data = bytearray()
    # Block by block: a file object makes room for all that it is asked for.
    while len(data) < size and (block := file.read(min(_BLOCK, size - len(data)))):
        data += block
    return data
