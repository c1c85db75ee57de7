"""Writes members of an audience as CSV, JSON (an object per line) or Parquet, as they arrive.

A spreadsheet takes a cell that begins with = + - @ (or a tab or carriage return) for a formula; a
user id could be one. Such a text in a CSV file gets a ' before it, and the writer counts them.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, BinaryIO, Final, Protocol

from schemas.errors import FatalError

__all__ = ["FORMATS", "Written", "write_members"]

FORMATS: Final = ("csv", "parquet", "json")
_ROWS: Final = 10_000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class Written:
    """What was written: rows, and cells that got a ' before them."""

    def __init__(self) -> None:
        self.rows = 0
        self.quoted = 0


def write_members(
    rows: Iterable[tuple[Any, ...]],
    columns: Mapping[str, type],
    kind: str,
    out: BinaryIO,
    written: Written,
) -> Iterator[int]:
    """Write `rows` to `out`; yields how many are written, after each part of 10,000.

    Raises FatalError if Parquet is asked for and pyarrow is not installed.
    """
    writer = _WRITERS[kind](columns, out, written)
    left = iter(rows)
    while part := list(islice(left, _ROWS)):
        writer.write(part)
        written.rows += len(part)
        yield written.rows
    writer.close()


class _Csv:
    def __init__(self, columns: Mapping[str, type], out: BinaryIO, written: Written) -> None:
        self._out, self._written = out, written
        self._write([list(columns)])

    def _write(self, rows: Iterable[list[Any]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._out.write(text.getvalue().encode())

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        self._write([self._cell(value) for value in row] for row in rows)

    def _cell(self, value: Any) -> Any:
        if isinstance(value, datetime):
            return _iso(value)
        if isinstance(value, str) and value.startswith(_FORMULA):
            self._written.quoted += 1
            return f"'{value}"
        return value

    def close(self) -> None:
        """Nothing is left to write."""


class _Json:
    def __init__(self, columns: Mapping[str, type], out: BinaryIO, written: Written) -> None:
        self._names, self._out = list(columns), out

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        for row in rows:
            values = (_iso(v) if isinstance(v, datetime) else v for v in row)
            line = json.dumps(dict(zip(self._names, values, strict=True)), ensure_ascii=False)
            self._out.write(line.encode() + b"\n")

    def close(self) -> None:
        """Nothing is left to write."""


class _Parquet:
    def __init__(self, columns: Mapping[str, type], out: BinaryIO, written: Written) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415  (an extra)
            import pyarrow.parquet as pq  # noqa: PLC0415
        except ModuleNotFoundError:
            raise FatalError(
                "Parquet needs pyarrow, which is not installed. Run `pip install "
                "'tideline[local]'`, or choose --format csv."
            ) from None
        self._pa = pa
        kinds = {
            str: pa.string(),
            int: pa.uint32(),
            float: pa.float32(),
            datetime: pa.timestamp("ms", tz="UTC"),
        }
        self._schema = pa.schema([(name, kinds[kind]) for name, kind in columns.items()])
        self._writer = pq.ParquetWriter(out, self._schema)

    def write(self, rows: list[tuple[Any, ...]]) -> None:
        arrays = [
            self._pa.array(values, type=field.type)
            for values, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._writer.write_table(self._pa.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _Writer(Protocol):
    def write(self, rows: list[tuple[Any, ...]]) -> None: ...
    def close(self) -> None: ...


_WRITERS: Final[Mapping[str, Callable[[Mapping[str, type], BinaryIO, Written], _Writer]]] = {
    "csv": _Csv,
    "json": _Json,
    "parquet": _Parquet,
}


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
