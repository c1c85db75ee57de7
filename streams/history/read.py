"""Reads a file: the one door for `replay`, `train` and `evaluate`."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from schemas.errors import SettingsError
from schemas.events import CLICK_TYPES, ORDER_TYPES, ClickEvent, OrderEvent
from streams.history.exports import Mapped, resolve
from streams.history.fields import plain
from streams.history.identifiers import GUEST_WORDS, identifiers
from streams.history.orders import Orders, orders_of
from streams.history.report import EXAMPLES, LeftOut, Report
from streams.history.rows import Rows, Sheet
from streams.history.sheets import EventLines, event_lines, open_sheet, unpacked
from streams.history.source import EventHistory, OrderHistory
from streams.history.table import DAY_MS, ReadOptions, RowTable, table_of
from streams.history.times import EARLIEST_MS
from streams.memory import available_bytes
from streams.replay.records import CLICKSTREAM, ORDERS, Block, InputRecord

__all__ = ["check_memory", "read"]

FEW_ORDERS: Final = 20
"""Below so many, that nobody has two orders is no sign of anything."""
MEMORY_PER_BYTE: Final = 13
"""Of a text file, while it is read: 10,000,000 orders in 0.47 GB took 5.9 GB."""
CROWDED: Final = 0.2
"""A user with such a share of all orders may be a placeholder."""
_PERSON: Final = ("customer", "user", "client", "member", "email", "mail", "buyer", "shopper",
                  "visitor", "account", "phone", "household", "person", "kunde")  # fmt: skip
_check_order: Final = msgspec.json.Decoder(OrderEvent).decode
_check_click: Final = msgspec.json.Decoder(ClickEvent).decode


def read(path: Path, options: ReadOptions, now_ms: int) -> OrderHistory | EventHistory:
    """Read `path` whole. What happened after `now_ms` did not happen.

    Raises SettingsError when the file can't be read, a column is missing, or something must be
    asked. It does not judge how much was left out: `Report.check` does.
    """
    with unpacked(path) as inside:
        lines = None if options.given or options.only else event_lines(inside)
        if lines is not None:
            return _events(path.name, lines, now_ms)
        given = [*options.given.values(), *options.only]
        sheet = open_sheet(inside, options.encoding, given, options.sheet)
        if sheet.unit == "line":
            check_memory(path.name, inside.stat().st_size, available_bytes())
        mapped = resolve(sheet.columns, options.given, sheet.empty)
        missing = [column for column in options.only if column not in sheet.columns]
        if missing:
            raise SettingsError(
                f"--only {missing[0]}: no such column. The file has: {', '.join(sheet.columns)}."
            )
        rows = sheet.load(list(dict.fromkeys([*mapped.needed, *options.only])))
        table = table_of(rows, mapped, options, now_ms, path.name)
        orders = orders_of(table, mapped, options)
        table.notes.extend(_notes(table, orders, mapped))
        alone = _one_order_each(sheet, mapped, orders)
    return OrderHistory(_report(path.name, sheet, mapped, rows, table, orders, alone), orders)


def check_memory(name: str, text_bytes: int, available: int | None) -> None:
    """Raises SettingsError if a text file of so many bytes would not fit; None: that is unknown."""
    needed = MEMORY_PER_BYTE * text_bytes
    if available is not None and needed > available:
        raise SettingsError(
            f"{name}: a file of {text_bytes / 1e9:.1f} GB takes about {needed / 1e9:.0f} GB of "
            f"memory, and {available / 1e9:.0f} GB are free. Split it by lines into files of "
            f"{available / MEMORY_PER_BYTE / 1e9:.1f} GB or less, each with the header; `tideline "
            "backfill` takes all of them at once."
        )


def _report(
    name: str, sheet: Sheet, mapped: Mapped, rows: Rows, table: RowTable, orders: Orders,
    alone: str,
) -> Report:  # fmt: skip
    by_reason: dict[str, list[int]] = {}
    for number, why in rows.bad:
        by_reason.setdefault(why, []).append(number)
    broken = [
        LeftOut(why, len(at), tuple(f"{sheet.unit} {n}" for n in sorted(at)[:EXAMPLES]), True)
        for why, at in by_reason.items()
    ]
    back = orders.total(orders.returned)
    placed = orders.total(~orders.returned)
    return Report(
        name,
        sheet.described + (f"; {mapped.export.name}" if mapped.export else ""),
        mapped.words(),
        table.choices,
        table.reasons.rows + len(rows.bad),
        int((~orders.returned).sum()),
        int(orders.returned.sum()),
        len(np.unique(orders.user.codes)),
        {c: round(placed.get(c, 0.0) - back.get(c, 0.0), 2) for c in {**placed, **back}},
        back,
        int(orders.ts_ms[0]) if len(orders) else None,
        int(orders.ts_ms[-1]) if len(orders) else None,
        (*broken, *table.reasons.listed(sheet.unit, rows.number)),
        (*table.notes, *([alone] if alone else [])),
        one_order_each=alone,
    )


def _notes(table: RowTable, orders: Orders, mapped: Mapped) -> list[str]:
    notes = [mapped.export.note] if mapped.export and mapped.export.note else []
    placed = orders.user.codes[~orders.returned]
    counts = np.bincount(placed, minlength=1) if len(placed) else np.zeros(1, np.int64)
    top = int(counts.argmax())
    if (counts > 0).sum() >= FEW_ORDERS and counts[top] > CROWDED * counts.sum():
        user = orders.user.texts[top].as_py()
        notes.append(
            f"User {user!r} has {counts[top] / counts.sum():.0%} of all orders. If that stands for "
            f"guests, leave it out: --guests {user}."
        )
    times = orders.ts_ms
    if len(times) > 1 and mapped.columns.get("refund") and orders.returned.any():
        notes.append("When refunds were made is not in the file: they count at the order's time.")
    return notes


def _one_order_each(sheet: Sheet, mapped: Mapped, orders: Orders) -> str:
    """Why the user may be the wrong column, if nobody has two orders; "" if somebody has."""
    placed = orders.user.codes[~orders.returned]
    users = len(np.unique(placed))
    if len(placed) < FEW_ORDERS or users < len(placed):
        return ""
    used = {column for name, column in mapped.columns.items() if name != "email"}
    others = [c for c in sheet.columns if c not in used and any(w in plain(c) for w in _PERSON)]
    found = []
    if others:
        columns = sheet.load(others).columns
        for name in others:
            cells = identifiers(columns[name], GUEST_WORDS)
            filled = int((cells.codes >= 0).sum())
            if 1 < len(cells.texts) < filled:
                found.append(f"{name} ({len(cells.texts):,} values)")
    more = f" The file also has {', '.join(found)}: --map user=COLUMN." if found else ""
    return (
        f"{len(placed):,} orders of {users:,} users: nobody has two. Is "
        f"{mapped.columns['user']} the customer?{more}"
    )


def _events(name: str, lines: EventLines, now_ms: int) -> EventHistory:
    """Tideline events as they are."""
    block: Block = []
    orders: list[OrderEvent] = []
    refused: dict[str, list[str]] = {}
    rows = 0
    for number, text, row in lines:
        rows += 1
        try:
            record = _event(text, row, orders, now_ms)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as why:
            refused.setdefault(str(why).split(" - at")[0], []).append(f"line {number}: {why}")
        else:
            block.append(record)
    block.sort(key=lambda record: record.timestamp_ms)
    placed: defaultdict[str, float] = defaultdict(float)
    back: defaultdict[str, float] = defaultdict(float)
    for order in orders:
        if order.type != "cancelled":
            (placed if order.type == "placed" else back)[order.currency or ""] += order.amount
    report = Report(
        name, "Tideline events, as they are", "", {}, rows,
        sum(o.type == "placed" for o in orders), sum(o.type == "returned" for o in orders),
        len({r.key for r in block}),
        {c: round(placed[c] - back[c], 2) for c in {**placed, **back}},
        {c: round(v, 2) for c, v in back.items()},
        block[0].timestamp_ms if block else None, block[-1].timestamp_ms if block else None,
        tuple(LeftOut(why, len(at), tuple(at[:EXAMPLES]), True) for why, at in refused.items()),
        clicks=sum(r.topic_kind == CLICKSTREAM for r in block),
    )  # fmt: skip
    return EventHistory(report, block)


def _event(
    text: bytes, row: dict[str, Any] | None, orders: list[OrderEvent], now_ms: int
) -> InputRecord:
    """The line as a record; an order is also added to `orders`. Raises ValueError."""
    kind = row.get("type") if row else None
    if kind in CLICK_TYPES:
        click = _check_click(text)
        record = InputRecord(CLICKSTREAM, click.user_id.encode(), text, click.ts)
    elif kind in ORDER_TYPES:
        order = _check_order(text)
        record = InputRecord(ORDERS, order.user_id.encode(), text, order.ts)
    else:
        raise ValueError("not a JSON object" if row is None else f"type {kind!r} is no event type")
    if record.timestamp_ms > now_ms + DAY_MS:
        raise ValueError("in the future")
    if record.timestamp_ms < EARLIEST_MS:
        raise ValueError("before 1995 (is `ts` in milliseconds?)")
    if kind in ORDER_TYPES:
        orders.append(order)
    return record
