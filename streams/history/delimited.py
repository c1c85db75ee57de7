"""Reads delimited text: CSV of any usual encoding and delimiter, with broken rows named.

pyarrow parses. Where lines and rows don't match, a second look by Python's csv finds each row's
line, and quotes that are opened and never closed: such a line alone is left out, and not all that
the quote would swallow.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from schemas.errors import SettingsError
from streams.history.rows import Rows, Sheet
from streams.history.sniff import cells_in, column_names, encoding_of, layout_of

__all__ = ["open_delimited"]

_CHUNK: Final = 1 << 24
_HEAD: Final = 1 << 16
_LONGEST_CELL: Final = 1 << 28
_LONGEST_ROW: Final = 1_000  # lines; a quote that stays open for longer is taken as a mistake
_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_ENCODINGS: Final = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8 with BOM", "cp1252": "Windows-1252"}
UNCLOSED: Final = "a quote is opened and never closed"
TOO_WIDE: Final = "more cells than the header has"


@dataclass(frozen=True)
class _Text:
    """A text as UTF-8: a buffer, or the path of a file that is UTF-8 already."""

    source: Any
    delimiter: str
    header_at: int
    """Lines before the header."""
    columns: list[str]
    lines: int
    """Physical lines, the last one too if it doesn't end in a line break."""
    quotes: bool

    def open(self) -> Any:
        return pa.memory_map(self.source) if isinstance(self.source, str) else pa.BufferReader(
            self.source
        )  # fmt: skip


def open_delimited(path: Path, encoding: str | None, given: Sequence[str]) -> Sheet:
    """The table in a text file. `encoding` is what the user says it is in; None: found out.

    `given` are the columns that the user named. Raises SettingsError if it has no header, or can't
    be read in `encoding`.
    """
    source, found = _as_utf8(path, encoding)
    lines, quotes, head = _scan(source)
    try:
        delimiter, at, header = layout_of(head, given)
    except SettingsError as error:
        raise SettingsError(f"{path.name}: {error}") from error
    text = _Text(source, delimiter, at, column_names(header), lines, quotes)
    encoded_as = _ENCODINGS.get(found, found.upper())
    return Sheet(
        text.columns,
        f"text, {encoded_as}, {_NAMES.get(delimiter, repr(delimiter))} between cells"
        + (f", {at} lines before the header" if at else ""),
        "line",
        partial(_load, text, path.name),
        _empty(text, head),
    )


def _as_utf8(path: Path, encoding: str | None) -> tuple[Any, str]:
    """The text as a path (it is plain UTF-8) or a UTF-8 buffer, and the encoding that it was in."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        name = encoding or encoding_of(head, is_utf8=True)
        old_mac = b"\n" not in head and b"\r" in head
        if encoding is None and name == "utf-8" and not _is_utf8(path):
            name = encoding_of(head, is_utf8=False)
    if name in ("utf-8", "utf-8-sig") and not old_mac and (encoding is None or _is_utf8(path)):
        return str(path), name
    try:
        decoded = path.read_bytes().decode(name, errors="replace")
    except (LookupError, UnicodeError) as error:
        raise SettingsError(
            f"--encoding {name!r} can't be used ({error}); it is a name such as cp1250."
        ) from error
    decoded = decoded.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return pa.py_buffer(decoded.encode("utf-8", errors="replace")), name


def _is_utf8(path: Path) -> bool:
    check = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                check.decode(chunk)
            check.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _chunks(source: Any) -> Iterator[bytes]:
    if not isinstance(source, str):
        yield source.to_pybytes()
        return
    with Path(source).open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _scan(source: Any) -> tuple[int, bool, str]:
    """Physical lines, whether there are quotes, and the first lines as text."""
    lines, quotes, head, last = 0, False, b"", b"\n"
    for chunk in _chunks(source):
        head = head or chunk[:_HEAD]
        lines += chunk.count(b"\n")
        quotes = quotes or b'"' in chunk
        last = chunk[-1:] or last
    text = head.decode("utf-8", errors="replace").removeprefix("\ufeff")
    cut = text.rfind("\n") if len(head) == _HEAD else len(text)
    return lines + (last != b"\n"), quotes, text[: cut + 1 if cut >= 0 else None]


def _empty(text: _Text, head: str) -> frozenset[str]:
    rows = [cells_in(line, text.delimiter) for line in head.splitlines()[text.header_at + 1 :]]
    filled = {i for row in rows for i, cell in enumerate(row) if cell.strip()}
    return frozenset(name for i, name in enumerate(text.columns) if i not in filled) if rows else (
        frozenset()
    )  # fmt: skip


def _load(text: _Text, name: str, wanted: Sequence[str]) -> Rows:
    found, refused = _parse(text, name, wanted)
    n = len(next(iter(found.values()))) if found else 0
    rows = n + len(refused)
    if text.header_at + 1 + rows == text.lines:
        number, bad = _numbers(rows, refused, text.header_at + 2)
        return _salvage(text, found, number, refused, bad, wanted)
    # Blank lines, or cells over several lines: each row's line must be looked for.
    cleaned, starts, unclosed = _look_again(text)
    found, refused = _parse(cleaned, name, wanted)
    n = len(next(iter(found.values()))) if found else 0
    if n + len(refused) != len(starts):  # the two parsers differ: count rows, not lines
        starts = np.arange(n + len(refused), dtype=np.int64) + 2
    at = np.array([r - 1 for r, _ in refused], np.int64)
    keep = np.ones(len(starts), np.bool_)
    keep[at] = False
    whole = _salvage(text, found, starts[keep], refused, starts[at], wanted)
    return replace(whole, bad=sorted([*whole.bad, *((line, UNCLOSED) for line in unclosed)]))


def _numbers(
    rows: int, refused: list[tuple[int, str]], first: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keep = np.ones(rows, np.bool_)
    at = np.array([r - 1 for r, _ in refused], np.int64)
    keep[at] = False
    number = np.arange(first, first + rows, dtype=np.int64)
    return number[keep], number[at]


def _parse(
    text: _Text, name: str, wanted: Sequence[str]
) -> tuple[dict[str, Any], list[tuple[int, str]]]:
    """The wanted columns, and (row from 1, its text) of rows with more or fewer cells."""
    refused: list[tuple[int, str]] = []

    def refuse(row: Any) -> str:
        refused.append((row.number, row.text))
        return "skip"

    try:
        table = arrow_csv.read_csv(
            text.open(),
            arrow_csv.ReadOptions(
                use_threads=False,  # rows are numbered only without
                skip_rows=text.header_at + 1,
                column_names=text.columns,
                block_size=1 << 24,
            ),
            arrow_csv.ParseOptions(
                delimiter=text.delimiter, newlines_in_values=text.quotes,
                invalid_row_handler=refuse, quote_char='"' if text.quotes else False,
            ),
            arrow_csv.ConvertOptions(
                include_columns=list(wanted),
                column_types={c: pa.large_string() for c in wanted},
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        if "Empty CSV" in str(error) or "skip" in str(error):
            raise SettingsError(f"{name}: there are no rows below the header line.") from error
        raise SettingsError(
            f"{name} can't be read as a table: {error}. Export it again as CSV, or mend it."
        ) from error
    first = text.header_at + 1
    return (
        {c: _combined(table.column(c)) for c in wanted},
        [(number - first, said) for number, said in refused],
    )


def _combined(column: Any) -> Any:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def _salvage(
    text: _Text, found: dict[str, Any], number: NDArray[np.int64], refused: list[tuple[int, str]],
    lines: NDArray[np.int64], wanted: Sequence[str],
) -> Rows:  # fmt: skip
    """Rows whose last cells are missing, or whose cells beyond the header are blank, are rows."""
    bad: list[tuple[int, str]] = []
    saved: list[list[str]] = []
    saved_lines: list[int] = []
    width = len(text.columns)
    for (_, said), line in zip(refused, lines.tolist(), strict=True):
        row = cells_in(said, text.delimiter)
        if any(cell.strip() for cell in row[width:]):
            bad.append((line, TOO_WIDE))
        elif said.count('"') % 2:
            bad.append((line, UNCLOSED))
        else:
            saved.append([*row, *[""] * (width - len(row))])
            saved_lines.append(line)
    if not saved:
        return Rows(found, number, bad)
    order = np.argsort(np.concatenate([number, saved_lines]), kind="stable")
    at = {c: text.columns.index(c) for c in wanted}
    merged = {}
    for c in wanted:
        more = pa.array([row[at[c]] for row in saved], pa.large_string())
        merged[c] = pa.concat_arrays([found[c], more]).take(pa.array(order))
    return Rows(merged, np.concatenate([number, saved_lines])[order].astype(np.int64), bad)


def _look_again(text: _Text) -> tuple[_Text, NDArray[np.int64], list[int]]:
    """The text without blank lines and lines with an unclosed quote; each row's line; those lines.

    A quote is unclosed if what follows it has a line that is a whole row by itself.
    """
    csv.field_size_limit(_LONGEST_CELL)
    whole = b"".join(_chunks(text.source)).decode("utf-8", errors="replace").removeprefix("\ufeff")
    lines = whole.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    at, width = text.header_at + 1, len(text.columns)
    kept: list[str] = []
    starts: list[int] = []
    unclosed: list[int] = []
    while at < len(lines):
        if not lines[at]:
            at += 1
            continue
        most = min(len(lines), at + (_LONGEST_ROW if '"' in lines[at] else 1))
        # line breaks belong to the cells that hold them
        ahead = (lines[i] + "\n" for i in range(at, most))
        reader = csv.reader(ahead, delimiter=text.delimiter)
        row = next(reader, [])
        end = at + reader.line_num
        if end - at > 1 and _swallows(lines[at + 1 : end], row, text.delimiter, width):
            unclosed.append(at + 1)
            at += 1
            continue
        starts.append(at + 1)
        kept.extend(lines[at:end])
        at = end
    head = [""] * text.header_at + [text.delimiter.join(["x"] * width)]
    data = ("\n".join([*head, *kept]) + "\n").encode("utf-8", errors="replace")
    cleaned = replace(text, source=pa.py_buffer(data), lines=len(head) + len(kept))
    return cleaned, np.array(starts, np.int64), unclosed


def _swallows(inside: list[str], row: list[str], delimiter: str, width: int) -> bool:
    if len(row) < width or len(inside) + 1 >= _LONGEST_ROW:
        return True
    return width > 1 and any(len(cells_in(line, delimiter)) == width for line in inside)
