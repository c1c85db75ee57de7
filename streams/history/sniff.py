"""Says how a text is written: its encoding, delimiter and header line, from its bytes."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Final

from schemas.errors import SettingsError
from streams.history.exports import EXPORTS
from streams.history.fields import FIELDS, plain

__all__ = ["Layout", "cells_in", "column_names", "encoding_of", "header_at", "layout_of"]

_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_DELIMITERS: Final = ",;\t|"
_LOOKED_AT: Final = 40
_SEPARATORS: Final = {"sep=": "\t", **{f"sep={d}": d for d in ",;|:^~"}}
_KNOWN: Final = frozenset(
    [plain(n) for names in FIELDS.values() for n in names]
    + [n for e in EXPORTS for names in (*e.signature, *e.columns.values()) for n in names]
)
Layout = tuple[str, int, list[str]]
"""Delimiter, lines before the header, and the header's cells."""


def encoding_of(head: bytes, *, is_utf8: bool) -> str:
    """The encoding of a text that begins with `head`; `is_utf8` says whether all of it is UTF-8.

    Windows-1252 is what is left: exports of Excel and older shop systems in the West are in it.

    >>> encoding_of("é".encode("cp1252"), is_utf8=False)
    'cp1252'
    """
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    zeros = head[:2000]
    if zeros[1::2].count(0) > len(zeros) // 4:
        return "utf-16-le"
    if zeros[::2].count(0) > len(zeros) // 4:
        return "utf-16-be"
    return "utf-8" if is_utf8 else "cp1252"


def cells_in(row: str, delimiter: str) -> list[str]:
    """The cells of one row of text, which may span lines if it quotes them.

    >>> cells_in('a,"b, c",d', ",")
    ['a', 'b, c', 'd']
    """
    try:
        return next(csv.reader(io.StringIO(row, newline=""), delimiter=delimiter), [])
    except csv.Error:  # a line break or a NUL where no cell can have one
        return row.split(delimiter)


def layout_of(text: str, given: Sequence[str] = ()) -> Layout:
    """Delimiter and header of a text's first lines. `given`: columns that the user named.

    A line `sep=;` decides the delimiter; else it is the one that splits most lines alike. Lines
    before the one with the most known column names are titles. Raises SettingsError if there is no
    header.

    >>> layout_of("sep=;\\nShop report\\nuser;date;total\\na;2024-03-01;1,50\\n")
    (';', 2, ['user', 'date', 'total'])
    """
    lines = text.splitlines()[:_LOOKED_AT]
    first = 0
    while first < len(lines) and not lines[first].strip():
        first += 1
    said = lines[first].strip().strip('"').lower() if first < len(lines) else ""
    if said.startswith("sep=") and len(said) <= 5:
        first += 1
    if said in _SEPARATORS:
        delimiter = _SEPARATORS[said]
    else:
        delimiter = max(_DELIMITERS, key=lambda d: _evenness(lines[first:], d))
    rows = [cells_in(line, delimiter) for line in lines]
    at = first + header_at(rows[first:], given)
    return delimiter, at, rows[at]


def header_at(rows: Sequence[Sequence[str]], given: Sequence[str] = ()) -> int:
    """Which of the first rows of a table names its columns. Raises SettingsError if none does.

    >>> header_at([["Report"], ["when", "Customer ID", "Total"], ["2024", "17", "1.5"]])
    1
    """
    known = _KNOWN | {plain(g) for g in given}
    scores = [sum(plain(cell) in known for cell in row) for row in rows]
    best = max(scores, default=0)
    if best >= 2:
        return scores.index(best)
    widths = Counter(len(row) for row in rows if len(row) > 1)
    usual = widths.most_common(1)[0][0] if widths else 1
    found = (i for i, row in enumerate(rows) if len(row) == usual and any(c.strip() for c in row))
    at = next(found, None)
    if at is None:
        raise SettingsError("it has no header line with column names. Add one as the first line.")
    if any(_is_value(cell) for cell in rows[at]):
        raise SettingsError(
            f"its first line ({', '.join(rows[at])[:60]!r}) holds values, not column names. Add a "
            "header line such as user,timestamp,amount."
        )
    return at


def column_names(header: Sequence[str]) -> list[str]:
    """Names to map by: without blanks around them, and each only once.

    >>> column_names([" Total ", "", "Total"])
    ['Total', 'column 2', 'Total (2)']
    """
    names: list[str] = []
    for number, cell in enumerate(header, 1):
        name = cell.strip().strip("\ufeff") or f"column {number}"
        count = 1
        while name in names:
            count += 1
            name = f"{cell.strip()} ({count})"
        names.append(name)
    return names


def _evenness(lines: Sequence[str], delimiter: str) -> tuple[float, int]:
    widths = Counter(len(cells_in(line, delimiter)) for line in lines if line.strip())
    wide = {width: n for width, n in widths.items() if width > 1}
    if not wide:
        return 0.0, 0
    width, n = max(wide.items(), key=lambda found: (found[1], found[0]))
    return n / sum(widths.values()), width


def _is_value(cell: str) -> bool:
    """Whether a cell is a number or a time: no name of a column is."""
    text = cell.strip().strip("$€£")
    return bool(text) and text[0].isdigit() and not any(c.isalpha() for c in text)
