"""Columns of Parquet and Arrow files, read one group of rows at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from pyarrow import ipc, parquet

from arignote.data.labels import Labels
from arignote.errors import DataError

_KEPT_BYTES = 2**28
"""Of groups that were read, the last ones are kept up to this; one always is."""


class ParquetFile:
    """One Parquet file; open only while it is read, so that there may be any number."""

    def __init__(self, path: str) -> None:
        """Read its description.

        Raises:
            DataError: it cannot be read, or is no Parquet file.
        """
        self.path = path
        with _told(path, "Parquet"), parquet.ParquetFile(path) as file:
            self.schema: pa.Schema = file.schema_arrow
            self._metadata = file.metadata
        groups = range(self._metadata.num_row_groups)
        self.group_rows = [self._metadata.row_group(group).num_rows for group in groups]

    def column(self, name: str) -> pa.ChunkedArray:
        """All values of a column.

        Raises:
            DataError: it cannot be read.
        """
        with _told(self.path, "Parquet"), self._open() as file:
            return file.read(columns=[name], use_threads=False).column(0)

    def group(self, number: int, column: str) -> pa.ChunkedArray:
        """A column's values in group `number` of the rows; of a structure only its bytes.

        Raises:
            DataError: it cannot be read.
        """
        is_structure = pa.types.is_struct(self.schema.field(column).type)
        columns = [f"{column}.bytes" if is_structure else column]
        with _told(self.path, "Parquet"), self._open() as file:
            return file.read_row_group(number, columns=columns, use_threads=False).column(0)

    def _open(self) -> parquet.ParquetFile:
        return parquet.ParquetFile(self.path, metadata=self._metadata)


class ArrowFile:
    """One Arrow file as `save_to_disk` of Hugging Face's datasets writes it, mapped into memory."""

    def __init__(self, path: str) -> None:
        """Find its groups.

        Raises:
            DataError: it cannot be read, or is no stream of Arrow's.
        """
        self.path = path
        with _told(path, "Arrow"):
            reader = ipc.open_stream(pa.memory_map(path))
            self.schema: pa.Schema = reader.schema
            self._batches = list(reader)
        self.group_rows = [batch.num_rows for batch in self._batches]

    def column(self, name: str) -> pa.ChunkedArray:
        """All values of a column."""
        return pa.chunked_array(
            [batch.column(name) for batch in self._batches], self.schema.field(name).type
        )

    def group(self, number: int, column: str) -> pa.ChunkedArray:
        """A column's values in group `number` of the rows."""
        return pa.chunked_array([self._batches[number].column(column)])


TableFile: TypeAlias = ParquetFile | ArrowFile


def open_tables(paths: Sequence[str]) -> list[TableFile]:
    """The files, of each kind by its name.

    Raises:
        DataError: one cannot be read, or all are empty.
    """
    files = [ArrowFile(path) if path.endswith(".arrow") else ParquetFile(path) for path in paths]
    if not any(sum(file.group_rows) for file in files):
        raise DataError(f"{paths[0]} holds no rows: at least one sample is needed")
    return files


def read_labels(files: Sequence[TableFile], column: str) -> Labels:
    """All labels in order, (rows,).

    Raises:
        DataError: a row has none, or a file cannot be read.
    """
    values = [_full(file, column).to_numpy().astype(np.int64) for file in files]
    return np.concatenate(values)


def read_texts(files: Sequence[TableFile], column: str) -> Iterator[str]:
    """All texts in order.

    Raises:
        DataError: a row has none, or a file cannot be read.
    """
    for file in files:
        for values in _full(file, column).chunks:
            yield from values.to_pylist()


def _full(file: TableFile, column: str) -> pa.ChunkedArray:
    values = file.column(column)
    if values.null_count:
        raise DataError(
            f"{file.path} has {values.null_count:,} rows without a value in column {column}: leave "
            "such rows out"
        )
    return values


class ColumnImages:
    """A source of `EncodedImages`: a column of bytes, or of structures that have bytes."""

    def __init__(self, files: Sequence[TableFile], column: str) -> None:
        self._files = files
        self._column = column
        groups = [(f, number) for f in files for number in range(len(f.group_rows))]
        self._groups = [(f, number) for f, number in groups if f.group_rows[number]]
        rows = [file.group_rows[number] for file, number in self._groups]
        self._ends = np.cumsum(rows)
        self._kept: OrderedDict[int, pa.ChunkedArray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def name(self, index: int) -> str:
        """The file, and which row of which group."""
        group, row = self._place(index)
        file, number = self._groups[group]
        return f"{file.path}: {self._column} of row {row} in group {number}"

    def read(self, index: int) -> bytes:
        """The image file in row `index`.

        Raises:
            DataError: there is none, or its file cannot be read.
        """
        group, row = self._place(index)
        value = self._group(group)[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise DataError(
                f"{self.name(index)} is no image: write images themselves into the file, not "
                "only their paths"
            )
        return bytes(content)

    def _place(self, index: int) -> tuple[int, int]:
        """The group of row `index`, and its row there."""
        group = int(np.searchsorted(self._ends, index, side="right"))
        return group, index - (int(self._ends[group - 1]) if group else 0)

    def _group(self, group: int) -> pa.ChunkedArray:
        with self._lock:
            if group in self._kept:
                self._kept.move_to_end(group)
                return self._kept[group]
            file, number = self._groups[group]
            self._kept[group] = file.group(number, self._column)
            while len(self._kept) > 1 and self._kept_bytes() > _KEPT_BYTES:
                self._kept.popitem(last=False)
            return self._kept[group]

    def _kept_bytes(self) -> int:
        return sum(int(values.nbytes) for values in self._kept.values())


@contextmanager
def _told(path: str, kind: str) -> Iterator[None]:
    """Tell what pyarrow finds wrong with a file in one line."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be read as {kind} file ({reason}): get it again") from None
