"""Tables on disk, written batch by batch: CSV with the standard library, Parquet with pyarrow."""

import csv
import heapq
import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from spcnn_lightning.core.errors import MissingExtraError

Columns = dict[str, Any]
"""Columns of equal length by name: lists, or NumPy arrays of one axis."""


class Table(Protocol):
    """A table being written. The first column of all tables is ``index``, ascending."""

    def __init__(self, path: Path, columns: Columns) -> None:
        """Create the file with the columns that ``columns`` has; its rows are not written."""

    def write(self, columns: Columns) -> None:
        """Append rows."""

    def close(self) -> None:
        """Finish the file."""

    @staticmethod
    def merge(parts: Sequence[Path], path: Path) -> None:
        """Write the rows of all parts in the order of ``index``, those of equal index once."""


class CsvTable:
    """A table of comma-separated values; floats have the digits that identify them."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(columns)

    def write(self, columns: Columns) -> None:
        """Append rows."""
        # NumPy prints the shortest digits for the dtype at hand, float32 say.
        texts = [c if isinstance(c, list) else c.astype(str) for c in columns.values()]
        self._writer.writerows(zip(*texts, strict=True))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    @staticmethod
    def merge(parts: Sequence[Path], path: Path) -> None:
        """Write the rows of all parts in the order of ``index``, those of equal index once."""
        files = [part.open(newline="", encoding="utf-8") for part in parts]
        readers = [csv.reader(file) for file in files]
        headers = [next(reader) for reader in readers]
        with path.open("w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target)
            writer.writerow(headers[0])
            writer.writerows(_unique(heapq.merge(*readers, key=_index)))
        for file in files:
            file.close()


class ParquetTable:
    """A Parquet table with one row group per batch."""

    def __init__(self, path: Path, columns: Columns) -> None:
        pa, parquet = _pyarrow()
        self._pa = pa
        # A column of targets that are unknown in the first batch has a type all the same.
        fields = [
            (name, pa.int64() if name in ("index", "predicted", "target") else None)
            for name in columns
        ]
        table = pa.table(columns)
        self._schema = pa.schema(
            [(name, kind or table.schema.field(name).type) for name, kind in fields]
        )
        self._writer = parquet.ParquetWriter(str(path), self._schema)

    def write(self, columns: Columns) -> None:
        """Append rows."""
        self._writer.write_table(self._pa.table(columns, schema=self._schema))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    @staticmethod
    def merge(parts: Sequence[Path], path: Path) -> None:
        """Write the rows of all parts in the order of ``index``, those of equal index once."""
        pa, parquet = _pyarrow()

        table = pa.concat_tables([parquet.read_table(str(part)) for part in parts])
        table = table.sort_by("index")
        index = table["index"].to_pylist()
        keep = [row for row, number in enumerate(index) if row == 0 or number != index[row - 1]]
        parquet.write_table(table.take(keep), str(path))


def table_type(path: Path) -> type[CsvTable] | type[ParquetTable]:
    """Return the kind of table that the ending of ``path`` asks for.

    Raises:
        ValueError: If there is no such kind.
        MissingExtraError: For Parquet, if pyarrow is not installed.
    """
    ending = path.suffix.lower()
    if ending == ".csv":
        return CsvTable
    if ending != ".parquet":
        raise ValueError(f"cannot write a table to {path}: name it .csv or .parquet")
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError(
            f"cannot write {path}: Parquet needs pyarrow, which is not installed; install it with "
            f"pip install 'spcnn-lightning[parquet]', or name the file .csv"
        )
    return ParquetTable


def _pyarrow() -> tuple[Any, Any]:
    # By name, since pyarrow has no types and is optional.
    return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")


def _index(row: Sequence[str]) -> int:
    return int(row[0])


def _unique(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    last = None
    for row in rows:
        if row[0] != last:
            yield row
        last = row[0]
