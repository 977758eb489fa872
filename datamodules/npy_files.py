"""Arrays in .npy files that grow at the end.

Source:
    NumPy Enhancement Proposal 1, format 1.0: magic, version, uint16 length of the header, header.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spcnn_lightning.core.errors import DataError

HEADER_BYTES = 128
_MAGIC = b"\x93NUMPY\x01\x00"
_BLOCK = 1 << 20


class GrowingArray:
    """A .npy file to which rows are added; its header is true after `close`.

    Args:
        path: The file.
        dtype: Of the numbers.
        row_shape: Shape of a row: () or, say, (2,).
        rows: How many rows of an existing file to keep; 0 begins a new one.

    Raises:
        DataError: If there are rows to keep, and the file is missing or holds fewer.
    """

    def __init__(
        self, path: Path, dtype: np.dtype[np.generic], row_shape: tuple[int, ...], rows: int = 0
    ) -> None:
        self.dtype, self.row_shape, self.rows = dtype, row_shape, rows
        kept = HEADER_BYTES + rows * dtype.itemsize * int(np.prod(row_shape)) if rows else 0
        found = path.stat().st_size if path.is_file() else 0
        if found < kept:
            raise DataError(
                f"{path}: holds {found} bytes, expected at least {kept}, for the {rows} rows that "
                "were written before: something was lost; begin again in a new folder"
            )
        self._file = path.open("r+b" if rows else "wb")
        self._file.truncate(kept)
        if not rows:
            self._file.write(self._header())
        self._file.seek(0, os.SEEK_END)

    def append(self, values: NDArray[np.generic]) -> None:
        """Add rows."""
        assert values.shape[1:] == self.row_shape
        self._file.write(np.ascontiguousarray(values, self.dtype).tobytes())
        self.rows += len(values)

    def sync(self) -> None:
        """Have what was added written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write the number of rows into the header."""
        if not self._file.closed:
            self._file.seek(0)
            self._file.write(self._header())
            self._file.close()

    def _header(self) -> bytes:
        shape = (self.rows, *self.row_shape)
        text = repr({"descr": self.dtype.str, "fortran_order": False, "shape": shape})
        space = HEADER_BYTES - len(_MAGIC) - 2
        return _MAGIC + space.to_bytes(2, "little") + text.ljust(space - 1).encode() + b"\n"


def file_checksum(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
