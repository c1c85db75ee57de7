"""Opens a file as what it is, whatever its name ends in: text, Parquet, JSON, Excel, compressed."""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import parquet

from schemas.errors import SettingsError
from streams.history.delimited import open_delimited
from streams.history.rows import BLANK_WORDS, Rows, Sheet
from streams.history.sniff import column_names, header_at

__all__ = ["EventLines", "event_lines", "open_sheet", "unpacked"]

EVENT_FIELDS: Final = frozenset(("event_id", "user_id", "type", "ts"))
_decode: Final = msgspec.json.Decoder().decode
_GZIP, _ZIP, _PARQUET, _OLE = b"\x1f\x8b", b"PK\x03\x04", b"PAR1", b"\xd0\xcf\x11\xe0"
_OTHERS: Final = {
    b"%PDF": "a PDF document", b"SQLite format 3": "an SQLite database", b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive", b"7z\xbc\xaf": "a 7-Zip archive", b"\x89PNG": "a picture",
    b"Rar!": "a RAR archive", b"\x28\xb5\x2f\xfd": "a zstd archive", b"ORC": "an ORC file",
    b"ARROW1": "an Arrow file", b"Obj\x01": "an Avro file", b"\x7fELF": "a program",
}  # fmt: skip
EventLines = Iterator[tuple[int, bytes, dict[str, Any] | None]]
"""(line, its text, its object or None) of each line that is not empty."""


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """`path`, or what is in it if it is gzip or a ZIP archive of one file, in a temporary file.

    Raises SettingsError if there is no such file, it can't be read, or it is empty.
    """
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror or error}.") from error
    if not head.strip():
        raise SettingsError(f"{path.name} is empty.")
    data = _inside(path, head)
    if data is None:
        yield path
        return
    if not data.strip():
        raise SettingsError(f"{path.name} is empty.")
    with tempfile.TemporaryDirectory(prefix="tideline-") as folder:
        inside = Path(folder) / path.name
        inside.write_bytes(data)
        yield inside


def _inside(path: Path, head: bytes) -> bytes | None:
    """What is in an archive; None if `path` is none."""
    try:
        if head.startswith(_GZIP):
            return gzip.decompress(path.read_bytes())
        if head.startswith(_ZIP) and not _is_workbook(path):
            return _only_member(path)
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError(f"{path.name} can't be unpacked: {error}.") from error
    return None


def _is_workbook(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any(n.startswith(("xl/", "content.xml")) for n in names)


def _only_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        if len(names) != 1:
            raise SettingsError(
                f"{path.name} holds {len(names)} files; unpack it and name the one with the orders."
            )
        return archive.read(names[0])


def open_sheet(
    path: Path, encoding: str | None = None, given: Sequence[str] = (), sheet: str | None = None
) -> Sheet:
    """The table in `path`, which `unpacked` gave.

    `encoding` and `sheet` are the user's word on a text's encoding and a workbook's sheet; `given`
    are columns that the user named. Raises SettingsError when it is no table that can be read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if head.startswith(_PARQUET):
        return _parquet(path)
    if head.startswith((_ZIP, _OLE)):
        return _workbook(path, sheet, given)
    kind = next((words for mark, words in _OTHERS.items() if head.startswith(mark)), None)
    if kind is not None:
        raise SettingsError(
            f"{path.name} is {kind}; export the orders as CSV, Parquet, JSON lines or Excel."
        )
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if begins.startswith((b"{", b"[")):
        return _json(path)
    if begins[:15].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<table")):
        raise SettingsError(
            f"{path.name} is a web page or XML, whatever its name says; export the orders as CSV."
        )
    return open_delimited(path, encoding, given)


def event_lines(path: Path) -> EventLines | None:
    """The lines of a file of Tideline events; None if it is something else."""
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.startswith(b"{"):
        return None
    first = [row for _, (_, _, row) in zip(range(100), _objects(path), strict=False) if row]
    names = {name for row in first for name in row}
    return _objects(path) if names >= EVENT_FIELDS else None


def _objects(path: Path) -> EventLines:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            text = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip()
            if not text:
                continue
            try:
                found = _decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                found = None
            yield number, text, found if isinstance(found, dict) else None


def _json(path: Path) -> Sheet:
    """Lines of objects, or one list of them."""
    with path.open("rb") as file:
        is_list = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    bad: list[tuple[int, str]] = []
    rows: list[dict[str, Any]] = []
    number: list[int] = []
    found: Iterable[tuple[int, Any]]
    if is_list:
        try:
            whole = _decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SettingsError(f"{path.name} is not valid JSON: {error}.") from error
        found = enumerate(whole, 1)
    else:
        found = ((n, row) for n, _, row in _objects(path))
    for at, row in found:
        if isinstance(row, dict):
            rows.append(row)
            number.append(at)
        else:
            bad.append((at, "not a JSON object"))
    names = {name: None for row in rows for name in row}
    if not names:
        what = "list" if is_list else "first lines"
        raise SettingsError(f"{path.name}: its {what} holds no JSON object with the orders.")
    return _held(
        {name: _column([row.get(name) for row in rows]) for name in names},
        "JSON" if is_list else "JSON lines", "row" if is_list else "line", number, bad,
    )  # fmt: skip


def _workbook(path: Path, wanted: str | None, given: Sequence[str]) -> Sheet:
    try:
        import python_calamine  # noqa: PLC0415  (only the extras have it)
    except ImportError as missing:
        raise SettingsError(
            "Reading Excel needs python-calamine. Install it with: pip install 'tideline[local]'"
        ) from missing
    try:
        book = python_calamine.load_workbook(io.BytesIO(path.read_bytes()))
        names = book.sheet_names
        if wanted is not None and wanted not in names:
            raise SettingsError(f"--sheet {wanted!r}: {path.name} has {', '.join(names)}.")
        tables = {n: book.get_sheet_by_name(n).to_python() for n in names if wanted in (None, n)}
    except (python_calamine.CalamineError, OSError, ValueError) as error:
        raise SettingsError(f"{path.name} can't be read as an Excel file: {error}.") from error
    filled = {name: rows for name, rows in tables.items() if len(rows) > 1}
    if len(filled) != 1:
        raise SettingsError(
            f"{path.name} has {len(filled)} sheets with rows ({', '.join(filled) or 'none'}). "
            "Say which one holds the orders: --sheet NAME."
        )
    ((name, rows),) = filled.items()
    try:
        at = header_at([[str(c) for c in row] for row in rows[:40]], given)
    except SettingsError as error:
        raise SettingsError(f"{path.name}, sheet {name}: {error}") from error
    width = max(i for i, cell in enumerate(rows[at]) if str(cell).strip()) + 1
    columns = column_names([str(cell) for cell in rows[at][:width]])
    body = rows[at + 1 :]
    full = [i for i, row in enumerate(body) if any(cell not in ("", None) for cell in row)]
    return _held(
        {
            column: _column([body[i][k] if k < len(body[i]) else None for i in full])
            for k, column in enumerate(columns)
        },
        f"Excel, sheet {name}", "row", [at + 2 + i for i in full], [],
    )  # fmt: skip


def _column(values: list[Any]) -> Any:
    """Cells of one column as an Array: numbers or times if all are, else texts."""
    known = [v for v in values if not (v is None or (isinstance(v, str) and
             v.strip().lower() in BLANK_WORDS))]  # fmt: skip
    kinds = {type(v) for v in known}
    blank = [v if not isinstance(v, str) or v.strip().lower() not in BLANK_WORDS else None
             for v in values] if kinds and str not in kinds else values  # fmt: skip
    try:
        if kinds and kinds <= {int, float}:
            return pa.array(blank, pa.int64() if kinds == {int} else pa.float64())
        if kinds and all(hasattr(v, "timetuple") for v in known):
            return pa.array(blank, pa.timestamp("ms"))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    return pa.array([None if v is None else _text(v) for v in values], pa.large_string())


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)


def _held(
    columns: Mapping[str, Any], described: str, unit: str, number: list[int],
    bad: list[tuple[int, str]],
) -> Sheet:  # fmt: skip
    at = np.array(number, np.int64)

    def load(wanted: Sequence[str]) -> Rows:
        return Rows({name: columns[name] for name in wanted}, at, bad)

    empty = frozenset(name for name, c in columns.items() if c.null_count == len(c))
    return Sheet(list(columns), described, unit, load, empty)


def _parquet(path: Path) -> Sheet:
    try:
        names = list(parquet.ParquetFile(path).schema_arrow.names)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise SettingsError(f"{path.name} is no Parquet file that can be read: {error}.") from error
    if not names:
        raise SettingsError(f"{path.name} has no columns.")
    return Sheet(names, "Parquet", "row", partial(_load_parquet, path))


def _load_parquet(path: Path, wanted: Sequence[str]) -> Rows:
    try:
        file = parquet.ParquetFile(path)
        table = file.read(columns=list(wanted))
    except (pa.ArrowException, OSError) as error:
        raise SettingsError(f"{path.name} can't be read: {error}.") from error
    found = {}
    for name in wanted:
        column = table.column(name).combine_chunks()
        found[name] = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else (
            column
        )  # fmt: skip
    return Rows(found, np.arange(1, table.num_rows + 1, dtype=np.int64))
