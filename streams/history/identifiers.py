"""Reads ids as texts: guests and other placeholders are no id, and 17850.0 is 17850."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from streams.history.rows import BLANK_WORDS, Cells, cells_of, matches

__all__ = ["GUEST_WORDS", "addresses", "damaged", "identifiers"]

GUEST_WORDS: Final = BLANK_WORDS | frozenset(
    ("0", "0.0", "-1", "guest", "guests", "guest user", "guest checkout", "guest customer",
     "anonymous", "anon", "unknown", "unknown customer", "not set", "(not set)", "no customer",
     "walk-in", "walk in", "walk-in customer", "false", "00000000-0000-0000-0000-000000000000")
)  # fmt: skip
"""What shops store for a customer without an account, lower case. WooCommerce has 0 for all."""
_WHOLE: Final = r"^-?\d+\.0+$"
_INTEGER: Final = r"^-?\d+$"
_ADDRESS: Final = r"^[^@\s]+@[^@\s]+\.[^@\s.]+$"
_ROUNDED: Final = r"^\d(?:[.,]\d+)?[eE]\+\d+$"


def identifiers(column: Any, blank: frozenset[str] = BLANK_WORDS) -> Cells:
    """A column of ids. Where all of them are whole numbers written as decimals, the zeros go.

    >>> import pyarrow as pa
    >>> identifiers(pa.array(["17850.0", "13047.0", "NULL", "0"]), GUEST_WORDS).words()
    ['17850', '13047']
    """
    cells = cells_of(column, blank)
    whole = matches(cells.texts, _WHOLE)
    if not whole.any() or not (whole | matches(cells.texts, _INTEGER)).all():
        return cells
    short = pc.replace_substring_regex(cells.texts, r"\.0+$", "")
    again = cells_of(short, blank)  # 17850 and 17850.0 are one
    codes = np.append(again.codes, -1)[cells.codes]
    return Cells(codes, again.texts)


def addresses(column: Any, blank: frozenset[str] = BLANK_WORDS) -> Cells:
    """A column of e-mail addresses in lower case; what is no address is no value.

    >>> import pyarrow as pa
    >>> addresses(pa.array(["Ann@X.org", "ann@x.org ", "none given", "@"])).words()
    ['ann@x.org']
    """
    cells = cells_of(column, blank)
    lowered = pc.utf8_lower(cells.texts)
    is_address = pc.match_substring_regex(lowered, _ADDRESS)
    again = cells_of(pc.if_else(is_address, lowered, None), blank)
    return Cells(np.append(again.codes, -1)[cells.codes], again.texts)


def damaged(cells: Cells) -> NDArray[np.bool_]:
    """Which distinct ids lost digits in a spreadsheet, such as 5.00E+12, bool [k]."""
    return matches(cells.texts, _ROUNDED)
