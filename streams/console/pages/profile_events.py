"""What one customer did: clicks and orders, the newest first, while single events are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from streams.console import words
from streams.console.page import Ask, Column, Table
from streams.console.pages.kept_events import ANY, OFF

__all__ = ["event_table"]

ROWS: Final = 50
_LAST: Final = 2**63 - 1

# One query: to open the table's parts costs more than to read one customer's rows in them.
EVENTS: Final = """
SELECT * FROM
(
    SELECT toUnixTimestamp64Milli(ts) AS ts_ms, event_hash, toString(type) AS type,
        session_hash, order_hash, item_id, category, amount, lines, rating, simulated,
        count() OVER () AS events, min(ts_ms) OVER () AS first_ms,
        min(toUnixTimestamp(kept_until)) OVER () * 1000 AS kept_until_ms
    FROM customer_events
    WHERE user_group = cityHash64(%(user_id)s) %% 1024 AND user_id = %(user_id)s
)
WHERE (ts_ms, event_hash) < (%(before_ms)s, %(before_hash)s)
ORDER BY ts_ms DESC, event_hash DESC LIMIT %(limit)s
"""
COLUMNS: Final = (
    Column("ts_ms", "When", "time"),
    Column("type", "What", "tag"),
    Column("item_id", "Item"),
    Column("category", "Category"),
    Column("amount", "Amount", "money"),
    Column("lines", "Lines", "count"),
    Column("about", "Detail", "text", wide=True),
    Column("session", "Session", "code", hidden=True),
)


async def event_table(ask: Ask, user: str) -> Table:
    """A page of them. Raises ReadFailed, and Refused for a place that is not in the list."""
    place = ask.cursor(int, int)
    before_ms, before_hash = place or (_LAST, 0)
    rows = [
        *await ask.reader.rows(
            EVENTS, user_id=user, before_ms=before_ms, before_hash=before_hash, limit=ROWS + 1
        )
    ]
    more = rows[ROWS - 1] if len(rows) > ROWS else None
    return Table(
        "events", "Clicks and orders", COLUMNS, [_row(row) for row in rows[:ROWS]],
        empty="There are no older ones." if place else "" if rows else await _why_none(ask),
        next=ask.after(more["ts_ms"], more["event_hash"]) if more else "",
        note=_note(ask, rows[0]) if rows else "",
    )  # fmt: skip


async def _why_none(ask: Ask) -> str:
    if len(await ask.reader.rows(ANY)):
        return "None of this customer's events is kept any more, or they came before events were."
    return OFF


def _note(ask: Ask, span: Mapping[str, Any]) -> str:
    """From when they are, and until when the oldest is there."""
    n = int(span["events"])
    return (
        f"{words.count(n)} {'is' if n == 1 else 'are'} kept, the oldest of "
        f"{words.day(span['first_ms'], ask.zone)}; the next goes after "
        f"{words.day(span['kept_until_ms'], ask.zone)}. What was searched for or written in a "
        "review is not kept."
    )


def _row(row: Mapping[str, Any]) -> list[Any]:
    is_order = bool(row["order_hash"])
    return [
        row["ts_ms"], row["type"], row["item_id"] or None, row["category"] or None,
        row["amount"] if is_order else None, row["lines"] if is_order else None, _about(row),
        None if is_order else f"{int(row['session_hash']):08x}",
    ]  # fmt: skip


def _about(row: Mapping[str, Any]) -> str:
    """What else an event says. Orders have a short mark, so that what belongs to one is seen."""
    said = []
    if row["order_hash"]:
        said.append(f"order {int(row['order_hash']):016x}"[:12])
    if row["rating"]:
        said.append(f"{round(float(row['rating']), 1):g} of 5 stars")
    if row["simulated"]:
        said.append("made up by tideline replay")
    return ", ".join(said)
