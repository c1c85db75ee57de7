"""A page as JSON and as CSV. Pure."""

from __future__ import annotations

import csv
import io
import math
from typing import Any, Final

import msgspec

from streams.console.page import Chart, Page, Table
from streams.console.words import iso

__all__ = ["as_csv", "as_json"]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def as_json(page: Page, place: str, now_ms: int, visitor: str) -> bytes:
    """The page's facts: times are Unix ms, shares 0 to 1, money in the shop's currency.

    `now_ms` is the shop's time; a table's `as_of_ms` is, too, unless it says `as_of_wall`: then it
    is this machine's, which in a replay is another.
    """
    return msgspec.json.encode(
        {
            "page": place,
            "title": page.title,
            "summary": page.summary,
            "as_of_ms": page.as_of_ms,
            "now_ms": now_ms,
            "visitor": visitor,
            "facts": [msgspec.structs.asdict(fact) for fact in page.facts],
            "filters": {each.name: each.value for each in page.filters},
            "tables": {part.name: _table(part) for part in page.parts if isinstance(part, Table)},
            "charts": {part.name: _chart(part) for part in page.parts if isinstance(part, Chart)},
            **page.data,
        },
        enc_hook=str,
    )


def _table(table: Table) -> dict[str, Any]:
    keys = [column.key for column in table.columns]
    return {
        "title": table.title,
        "as_of_ms": table.as_of_ms,
        "as_of_wall": table.as_of_wall,
        "next": table.next,
        "rows": [dict(zip(keys, map(_plain, row), strict=True)) for row in table.rows],
    }


def _chart(chart: Chart) -> dict[str, Any]:
    return {
        "title": chart.title,
        "x": list(chart.x),
        "series": {each.label: [_plain(v) for v in each.values] for each in chart.series},
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def as_csv(table: Table) -> tuple[bytes, int]:
    """The table, and how many texts got a ' before them: a spreadsheet would run them as formulas.

    Times are ISO 8601 in UTC.
    """
    quoted = 0

    def cell(value: Any, kind: str) -> Any:
        nonlocal quoted
        value = _plain(value)
        if value is None:
            return ""
        if kind in ("time", "date"):
            return iso(value)
        if kind == "words":
            value = "; ".join(map(str, value))
        elif kind == "link":
            value = str(value[0])
        if isinstance(value, str) and value.startswith(_FORMULA):
            quoted += 1
            return f"'{value}"
        return value

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.key for column in table.columns])
    kinds = [column.kind for column in table.columns]
    writer.writerows(
        [cell(v, kind) for v, kind in zip(row, kinds, strict=True)] for row in table.rows
    )
    return text.getvalue().encode(errors="replace"), quoted
