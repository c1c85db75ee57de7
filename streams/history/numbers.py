"""Reads a column of numbers as the whole of it shows: which sign is the decimal one.

`1.234` may be a thousand or a decimal; `12.50` in the same column settles it. What nothing settles
is asked for and never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import SettingsError
from schemas.events import MAX_AMOUNT
from streams.history.rows import Cells, as_floats, cells_of, matches

__all__ = ["Decimal", "NumberColumn", "read_numbers"]

Decimal = Literal["point", "comma"]
CLEAR: Final = 10
"""So many values must speak for one reading for each that speaks against it."""
# Currencies, blanks and apostrophes between digits, and short codes such as USD or kr at the ends.
_DECORATION: Final = (
    r"[\s\p{Z}\p{Sc}'’`]+|R\$|^[-+(]?\p{L}{1,3}\.?|\p{L}{1,3}\.?$|\.?-{1,2}$|,-{1,2}$"
)
_VALID: Final[Mapping[Decimal, str]] = {
    "point": r"^[+-]?(?:\d+|[1-9]\d{0,2}(?:,\d{2,3})*,\d{3})?(?:\.\d*)?$",
    "comma": r"^[+-]?(?:\d+|[1-9]\d{0,2}(?:\.\d{3})+)?(?:,\d*)?$",
}
_EXPONENT: Final = r"^[+-]?\d+(?:\.\d+)?[eE][+-]?\d+$"
_MINUS: Final = r"^\(.*\)$|^.*\d\s*-$|^\s*[\p{Sc}\p{L}]*\s*[-−–]"


@dataclass(frozen=True)
class NumberColumn:
    """float64 [n] (NaN: blank or unreadable), the unreadable cells bool [n], and the choice."""

    values: NDArray[np.float64]
    unreadable: NDArray[np.bool_]
    decimal: Decimal | None = None
    """None: no value needed the choice."""


@dataclass(frozen=True)
class _Evidence:
    cells: Cells
    core: Any
    """The distinct texts without decoration, pyarrow strings [k]."""
    minus: NDArray[np.bool_]
    exponent: NDArray[np.bool_]
    valid: Mapping[Decimal, NDArray[np.bool_]]

    @property
    def votes(self) -> tuple[int, int]:
        """Distinct values that only a decimal point, or only a decimal comma, can explain."""
        point, comma = self.valid["point"], self.valid["comma"]
        return int((point & ~comma).sum()), int((comma & ~point).sum())

    def open_case(self) -> str | None:
        """A value that reads differently under the two, or None."""
        signs = matches(self.core, r"[.,]")
        both = np.flatnonzero(self.valid["point"] & self.valid["comma"] & signs)
        return str(self.cells.texts[int(both[0])]) if len(both) else None


def read_numbers(
    columns: Mapping[str, Any], said: Decimal | None = None
) -> dict[str, NumberColumn]:
    """Read columns of one file, name -> pyarrow Array [n]. `said`: the user's word on the sign.

    A column that its own values don't settle follows the others of the file. Raises SettingsError
    if none does.

    >>> column = pa.array(["2,059", "45.20", None, "9 or 8"])
    >>> read_numbers({"total": column})["total"].values.tolist()
    [2059.0, 45.2, nan, nan]
    """
    found: dict[str, NumberColumn] = {}
    texts: dict[str, _Evidence] = {}
    for name, column in columns.items():
        if _is_number(column.type):
            found[name] = _typed(column)
        else:
            texts[name] = _look(column)
    chosen = {name: said or _choice(name, seen) for name, seen in texts.items()}
    agreed = {c for c in chosen.values() if c is not None}
    for name, seen in texts.items():
        case = None if chosen[name] else seen.open_case()
        if case is not None and len(agreed) != 1:
            raise SettingsError(
                f"Column {name}: {case!r} may be a thousand or a decimal, and nothing in the file "
                "settles it. Say which sign is the decimal one: --decimal point or --decimal comma."
            )
        sign = chosen[name] or (next(iter(agreed)) if case is not None else None)
        found[name] = _parsed(seen, sign)
    return found


def _is_number(kind: Any) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _typed(column: Any) -> NumberColumn:
    values = as_floats(column)
    wrong = np.isinf(values) | (np.abs(np.nan_to_num(values)) > MAX_AMOUNT)
    return NumberColumn(np.where(wrong, np.nan, values), wrong)


def _look(column: Any) -> _Evidence:
    cells = cells_of(column)
    texts = cells.texts
    exponent = matches(texts, _EXPONENT)
    core = pc.replace_substring_regex(texts, r"[−–]", "-")
    core = pc.replace_substring_regex(core, _DECORATION, "")
    core = pc.replace_substring_regex(core, r"^\(|\)$|^[-+]|-$", "")
    core = pc.replace_substring_regex(core, _DECORATION, "")
    valid: dict[Decimal, NDArray[np.bool_]] = {
        sign: matches(core, pattern) & matches(core, r"\d") & ~exponent
        for sign, pattern in _VALID.items()
    }
    return _Evidence(cells, core, matches(texts, _MINUS), exponent, valid)


def _choice(name: str, seen: _Evidence) -> Decimal | None:
    point, comma = seen.votes
    if point > CLEAR * comma:
        return "point"
    if comma > CLEAR * point:
        return "comma"
    if not point and not comma:
        return None
    raise SettingsError(
        f"Column {name}: {point} values are written with a decimal point and {comma} with a "
        "decimal comma. Say which: --decimal point or --decimal comma; the others are left out."
    )


def _parsed(seen: _Evidence, sign: Decimal | None) -> NumberColumn:
    valid = seen.valid[sign or "point"]
    thousand, decimal = (".", ",") if sign == "comma" else (",", ".")
    plain = pc.replace_substring(pc.replace_substring(seen.core, thousand, ""), decimal, ".")
    plain = pc.if_else(pa.array(seen.exponent), seen.cells.texts, plain)
    usable = valid | seen.exponent
    plain = pc.if_else(pa.array(usable), plain, pa.scalar("nan", plain.type))
    numbers = as_floats(plain.cast(pa.float64())).copy()
    numbers[seen.minus & ~seen.exponent] *= -1
    numbers[~(np.abs(numbers) <= MAX_AMOUNT)] = np.nan
    padded = np.append(numbers, np.nan)
    values = padded[seen.cells.codes]
    return NumberColumn(values, np.isnan(values) & (seen.cells.codes >= 0), sign)
