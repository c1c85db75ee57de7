"""What every kind of file is read into: columns, each row with its number, and the rows refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = [
    "BLANK_WORDS",
    "Cells",
    "Rows",
    "Sheet",
    "as_bools",
    "as_floats",
    "as_ints",
    "cells_of",
    "matches",
]

BLANK_WORDS: Final = frozenset(
    ("", "null", "nan", "na", "n/a", "none", "nil", "\\n", "#n/a", "(null)", "<null>", "<na>",
     "undefined", "nat", "-")
)  # fmt: skip
"""What stands for "no value" in exports of databases, spreadsheets and data frames, lower case."""


@dataclass(frozen=True)
class Rows:
    """Some columns of a file, [n] each, and the number of each row in it."""

    columns: Mapping[str, Any]
    """Name -> pyarrow Array [n]."""
    number: NDArray[np.int64]
    bad: list[tuple[int, str]] = field(default_factory=list)
    """(number, why) of rows that can't be read at all; they are not among the n."""
    blank_lines: int = 0


@dataclass(frozen=True)
class Sheet:
    """A file that was opened: its columns, and a way to read some of them."""

    columns: list[str]
    described: str
    """Such as `CSV, UTF-8, comma`."""
    unit: str
    """What row numbers count: line or row."""
    load: Callable[[Sequence[str]], Rows]
    empty: frozenset[str] = frozenset()
    """Columns without a value among the first rows."""


@dataclass(frozen=True)
class Cells:
    """A column of texts by their distinct values: codes int64 [n], -1 for blank; `texts` [k]."""

    codes: NDArray[np.int64]
    texts: Any
    """pyarrow string Array [k]."""

    def words(self) -> list[str]:
        """The distinct texts as Python strings, [k]."""
        found: list[str] = self.texts.to_pylist()
        return found

    def text(self, row: int) -> str:
        """The text of one row; "" if it is blank."""
        code = int(self.codes[row])
        return "" if code < 0 else str(self.texts[code])

    def counts(self) -> NDArray[np.int64]:
        """How many rows have each distinct text, int64 [k]."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))

    def take(self, rows: NDArray[Any]) -> Cells:
        """The cells of some rows."""
        return Cells(self.codes[rows], self.texts)


def as_ints(column: Any, null: int = -1) -> NDArray[np.int64]:
    """A pyarrow column of integers as int64, `null` where there is none.

    Arrow's own `to_numpy` imports pandas where it is installed, which takes two seconds.
    """
    whole = column.cast(pa.int64())
    whole = whole.fill_null(null) if whole.null_count else whole
    return np.asarray(np.from_dlpack(whole), np.int64)


def as_floats(column: Any) -> NDArray[np.float64]:
    """A pyarrow column of numbers as float64, NaN where there is none."""
    whole = column.cast(pa.float64(), safe=False)
    whole = whole.fill_null(float("nan")) if whole.null_count else whole
    return np.asarray(np.from_dlpack(whole), np.float64)


def as_bools(column: Any) -> NDArray[np.bool_]:
    """A pyarrow column of booleans as bool, False where there is none."""
    whole = column.fill_null(False) if column.null_count else column
    return np.from_dlpack(whole.cast(pa.uint8())).astype(np.bool_)


def matches(texts: Any, pattern: str) -> NDArray[np.bool_]:
    """Which pyarrow texts match a regular expression (RE2), bool [k]."""
    return as_bools(pc.match_substring_regex(texts, pattern))


def cells_of(column: Any, blank: frozenset[str] = BLANK_WORDS) -> Cells:
    """A column of any type as texts, trimmed; `blank` words count as no value.

    Floats that are whole become integers: a column of ids with gaps was made floats elsewhere.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_floating(column.type):
        column = _whole_numbers(column)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column = _as_text(column)
    encoded = column.dictionary_encode()
    codes = as_ints(encoded.indices)
    trimmed = pc.utf8_trim_whitespace(encoded.dictionary)
    again = trimmed.dictionary_encode()  # trimming may make two texts one
    to_trimmed = as_ints(again.indices)
    texts = again.dictionary
    lowered = pc.utf8_lower(texts)
    is_blank = pc.is_in(lowered, pa.array(sorted(blank), lowered.type))
    keep = ~as_bools(is_blank)
    number = np.where(keep, np.cumsum(keep) - 1, -1)
    final = np.append(number[to_trimmed] if len(number) else to_trimmed, -1)
    return Cells(final[codes], texts.filter(pa.array(keep)))


def _whole_numbers(column: Any) -> Any:
    values = as_floats(column)
    known = values[np.isfinite(values)]
    if len(known) and (np.abs(known) < 2**53).all() and (known == np.floor(known)).all():
        return pa.array(np.where(np.isfinite(values), values, 0).astype(np.int64),
                        mask=~np.isfinite(values))  # fmt: skip
    return pa.array(values, mask=np.isnan(values))


def _as_text(column: Any) -> Any:
    try:
        return column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
