"""Reads rows from a user's CSV, Parquet or JSON lines file, each with its line or row number."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.errors import SettingsError

__all__ = ["JsonLines", "TableFile", "open_table"]

PARQUET_ENDINGS: Final = (".parquet", ".pq")
JSON_ENDINGS: Final = (".jsonl", ".ndjson", ".json")
TEXT_ENDINGS: Final = (".csv", ".tsv", ".txt")
_decode: Final = msgspec.json.Decoder().decode


class TableFile:
    """Column names, and the rows of some of them. `unit` is what the numbers count: line or row."""

    unit = "line"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def rows(self, columns: Sequence[str | None]) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
        """(number, cells) of each row; None cells for a row that can't be read at all. A column
        that is None yields None."""
        raise NotImplementedError


def open_table(path: Path) -> TableFile:
    """The table in `path`, by its ending. Raises SettingsError when it can't be read."""
    ending = path.suffix.lower()
    if ending not in PARQUET_ENDINGS + JSON_ENDINGS + TEXT_ENDINGS:
        known = ", ".join(TEXT_ENDINGS + PARQUET_ENDINGS + JSON_ENDINGS)
        raise SettingsError(f"{path.name}: unknown kind of file; these are read: {known}.")
    if not path.is_file():
        raise SettingsError(f"{path}: no such file.")
    if ending in PARQUET_ENDINGS:
        return _Parquet(path)
    return JsonLines(path) if ending in JSON_ENDINGS else _Csv(path)


class _Csv(TableFile):
    """The delimiter is guessed from the first line; UTF-8, or Windows-1252 where it is not."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._encoding = "utf-8-sig" if _is_utf8(path) else "cp1252"
        with path.open(encoding=self._encoding, errors="replace", newline="") as file:
            header = file.readline()
        self._delimiter = max(",;\t|", key=header.count)
        self.columns = next(csv.reader([header], delimiter=self._delimiter), [])
        if not self.columns:
            raise SettingsError(f"{path.name} has no header line with column names.")

    def rows(self, columns: Sequence[str | None]) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
        picks = [None if c is None else self.columns.index(c) for c in columns]
        width = max(p for p in picks if p is not None)
        with self.path.open(encoding=self._encoding, errors="replace", newline="") as file:
            reader = csv.reader(file, delimiter=self._delimiter)
            next(reader)
            for row in reader:
                if len(row) > width:
                    yield reader.line_num, tuple(None if p is None else row[p] for p in picks)
                elif row:
                    yield reader.line_num, None


class _Parquet(TableFile):
    unit = "row"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow  # noqa: PLC0415  (only the `local` extra has it)
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError as missing:
            raise SettingsError(
                "Reading Parquet needs pyarrow. Install it with: pip install 'tideline[local]'"
            ) from missing
        try:
            self._file = parquet.ParquetFile(path)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise SettingsError(f"{path.name} is no Parquet file: {error}") from error
        self.columns = list(self._file.schema_arrow.names)

    def rows(self, columns: Sequence[str | None]) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
        wanted = [c for c in columns if c is not None]
        number = 0
        for batch in self._file.iter_batches(columns=wanted):
            cells = {name: batch.column(name).to_pylist() for name in wanted}
            empty = [None] * batch.num_rows
            for row in zip(*(empty if c is None else cells[c] for c in columns), strict=True):
                number += 1
                yield number, row


class JsonLines(TableFile):
    """One flat object per line; the columns are those of the first 100 lines."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        names: dict[str, None] = {}
        for _, row in zip(range(100), self.objects(), strict=False):
            names.update(dict.fromkeys(row[2] or ()))
        self.columns = list(names)
        if not names:
            raise SettingsError(f"{path.name}: none of its first lines is a JSON object.")

    def objects(self) -> Iterator[tuple[int, bytes, dict[str, Any] | None]]:
        """(line number, the line, its object or None) of each line that is not empty."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not (text := line.strip()):
                    continue
                try:
                    found = _decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    found = None
                yield number, text, found if isinstance(found, dict) else None

    def rows(self, columns: Sequence[str | None]) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
        for number, _, row in self.objects():
            yield number, None if row is None else tuple(row.get(c) if c else None for c in columns)


def _is_utf8(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            while file.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return False
    return True
