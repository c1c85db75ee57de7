"""Turns a user's own file into orders: CSV, Parquet or JSON lines, with a column mapping.

Rows of one user with the same order id, or without order ids the same time, are one order. Rows
with a negative amount become a separate `returned` event of that order. Rows without a user (guest
checkouts) are left out and counted. JSON lines that are Tideline events already pass through as
they are. The file may be in any order; it is read into memory and sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from schemas.errors import SettingsError
from schemas.events import CLICK_TYPES, ORDER_TYPES, ClickEvent, OrderEvent, OrderLine
from streams.core.times import iso_utc
from streams.replay.mapping import resolve
from streams.replay.parsing import identifier, money, time_reader, zone
from streams.replay.records import CLICKSTREAM, ORDERS, Block, InputRecord, order_records
from streams.replay.tables import JsonLines, TableFile, open_table

__all__ = ["FileSource", "read"]

MAX_BAD_SHARE: Final = 0.05
BLOCK_RECORDS: Final = 2_000
_SHOWN: Final = 5
_EVENT_FIELDS: Final = {"event_id", "user_id", "type", "ts"}
_COLUMNS: Final = ("user", "timestamp", "amount", "price", "order", "item", "quantity", "category",
                   "discount", "currency")  # fmt: skip
_check_order: Final = msgspec.json.Decoder(OrderEvent).decode
_check_click: Final = msgspec.json.Decoder(ClickEvent).decode


@dataclass(frozen=True)
class FileSource:
    """A file's records in time order; made by `read`."""

    name: str
    mapping: dict[str, str]
    """Field -> column; empty when the file holds Tideline events."""
    rows: int
    without_user: int
    bad: list[str]
    """What was wrong with the rows left out, with line numbers."""
    all_records: Block
    first_out_of_order: str = ""
    """Where the file's times first go back, in words; empty for a file in time order."""

    @property
    def expected_records(self) -> int:
        return len(self.all_records)

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, len(self.all_records), BLOCK_RECORDS):
            yield self.all_records[start : start + BLOCK_RECORDS]

    def summary(self) -> dict[str, Any]:
        """The mapping that was used, and what became of the rows."""
        told = ", ".join(f"{name}={column}" for name, column in self.mapping.items())
        orders = sum(r.topic_kind == ORDERS for r in self.all_records)
        return {
            "source": self.name,
            "mapping": told or "none: the lines are Tideline events",
            "rows": self.rows,
            "orders": orders,
            "clickstream": len(self.all_records) - orders,
            "rows without a user (left out)": self.without_user,
            "rows that can't be read (left out)": len(self.bad),
        }


@dataclass
class _Basket:
    """The rows of one order, of one sign."""

    ts_ms: int
    lines: list[OrderLine] = field(default_factory=list)
    cents: int = 0
    discount_cents: int = 0
    currency: str | None = None


@dataclass
class _Found:
    """What reading has come upon so far."""

    unit: str
    rows: int = 0
    without_user: int = 0
    bad: list[str] = field(default_factory=list)

    def refuse(self, number: int, why: object) -> None:
        self.bad.append(f"{self.unit} {number}: {why}")

    def check(self, name: str) -> None:
        """Raises SettingsError if too much of the file can't be used."""
        shown = "\n  ".join(self.bad[:_SHOWN])
        if len(self.bad) > MAX_BAD_SHARE * self.rows:
            raise SettingsError(
                f"{name}: {len(self.bad)} of {self.rows} rows can't be read, more than "
                f"{MAX_BAD_SHARE:.0%}. The first of them:\n  {shown}\n"
                "Check --map, --tz and --time-format, or mend these rows."
            )
        if self.rows == self.without_user:
            raise SettingsError(f"{name}: no row names a user; check --map user=COLUMN.")


def read(
    path: Path, given: Mapping[str, str], tz: str | None = None, time_format: str | None = None
) -> FileSource:
    """Read `path` whole. `given` maps fields to columns; known column names are found without.

    Times without a zone are UTC, or in `tz`. Raises SettingsError when the file or a column is
    missing, or more than 5 % of the rows can't be read (fewer are left out and told).
    """
    table = open_table(path)
    found = _Found(table.unit)
    mapping: dict[str, str] = {}
    if isinstance(table, JsonLines) and not given and set(table.columns) >= _EVENT_FIELDS:
        block = _events(table, found)
    else:
        mapping = resolve(table.columns, given)
        block = _orders(table, mapping, time_reader(zone(tz), time_format), found)
    found.check(path.name)
    backwards = _backwards(block)
    block.sort(key=lambda record: record.timestamp_ms)
    return FileSource(
        path.name, mapping, found.rows, found.without_user, found.bad, block, backwards
    )


def _backwards(block: Block) -> str:
    for at, (before, after) in enumerate(pairwise(block)):
        if after.timestamp_ms < before.timestamp_ms:
            times = [iso_utc(r.timestamp_ms) for r in (before, after)]
            return f"Order {at + 2} of it ({times[1]}) is older than the one before ({times[0]})."
    return ""


def _events(table: JsonLines, found: _Found) -> Block:
    block: Block = []
    for number, text, row in table.objects():
        found.rows += 1
        kind = row.get("type") if row else None
        try:
            if kind in CLICK_TYPES:
                click = _check_click(text)
                block.append(InputRecord(CLICKSTREAM, click.user_id.encode(), text, click.ts))
            elif kind in ORDER_TYPES:
                order = _check_order(text)
                block.append(InputRecord(ORDERS, order.user_id.encode(), text, order.ts))
            else:
                found.refuse(number, f"type {kind!r} is no event type")
        except (msgspec.DecodeError, UnicodeDecodeError) as why:
            found.refuse(number, why)
    return block


def _orders(
    table: TableFile, mapping: Mapping[str, str], read_time: Callable[[Any], int], found: _Found
) -> Block:
    baskets: dict[tuple[str, str, bool], _Basket] = {}
    for number, cells in table.rows([mapping.get(name) for name in _COLUMNS]):
        found.rows += 1
        if cells is None:
            found.refuse(number, "not a row of this table")
            continue
        row = dict(zip(_COLUMNS, cells, strict=True))
        user = identifier(row["user"])
        if not user:
            found.without_user += 1
            continue
        try:
            _add_row(baskets, user, row, read_time(row["timestamp"]))
        except (ValueError, OverflowError, msgspec.ValidationError) as why:
            found.refuse(number, why)
    return order_records(_placed(baskets, found))


def _add_row(
    baskets: dict[tuple[str, str, bool], _Basket], user: str, row: dict[str, Any], ts_ms: int
) -> None:
    quantity = money(row["quantity"]) if row["quantity"] not in (None, "") else 1.0
    if row["amount"] is None and row["price"] is not None:
        amount = money(row["price"]) * quantity
    else:
        amount = money(row["amount"])
    discount = abs(money(row["discount"])) if row["discount"] not in (None, "") else 0.0
    order = identifier(row["order"]) or f"at-{ts_ms}"
    item = identifier(row["item"])
    line = OrderLine(
        item or "unknown", abs(round(amount, 2)), abs(quantity),
        identifier(row["category"]) or None, round(discount, 2),
    )  # fmt: skip
    # The schema's limits are checked before the row changes an order.
    msgspec.convert(msgspec.to_builtins(line), OrderLine)
    if len(user) + len(order) > 120:
        raise ValueError("the user and order ids are longer than 120 characters together")
    currency = identifier(row["currency"]).upper() or None
    if currency and not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
        raise ValueError(f"currency {currency!r} is not three letters")
    basket = baskets.setdefault((user, order, amount < 0), _Basket(ts_ms))
    basket.ts_ms = min(basket.ts_ms, ts_ms)
    basket.currency = basket.currency or currency
    basket.cents += round(line.amount * 100)
    basket.discount_cents += round(line.discount * 100)
    if item:
        basket.lines.append(line)


def _placed(baskets: dict[tuple[str, str, bool], _Basket], found: _Found) -> Iterator[OrderEvent]:
    for (user, order, returned), basket in baskets.items():
        if len(basket.lines) > 5_000:
            found.bad.append(f"order {order}: {len(basket.lines)} lines; at most 5,000 are read")
            continue
        yield OrderEvent(
            event_id=f"{'r' if returned else 'o'}-{user}-{order}",
            user_id=user,
            type="returned" if returned else "placed",
            ts=basket.ts_ms,
            order_id=order,
            amount=basket.cents / 100,
            currency=basket.currency,
            discount=basket.discount_cents / 100,
            lines=basket.lines,
        )
