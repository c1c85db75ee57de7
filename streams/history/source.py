"""Orders as records for Kafka, or for a replay in memory: in blocks, in time order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Final

import msgspec
import pyarrow as pa

from schemas.events import MAX_EVENT_BYTES, OrderEvent, OrderLine
from streams.history.orders import Orders
from streams.history.report import Report
from streams.replay.records import ORDERS, Block, InputRecord

__all__ = ["EventHistory", "OrderHistory"]

BLOCK_RECORDS: Final = 2_000
_LONGEST_NAME: Final = 128
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class OrderHistory:
    """A file's orders as a source of records; made by `read`."""

    report: Report
    orders: Orders
    is_export: ClassVar[bool] = True
    """Events are made up from rows; so are the ids of returns."""

    @property
    def expected_records(self) -> int:
        return len(self.orders)

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, len(self.orders), BLOCK_RECORDS):
            stop = min(start + BLOCK_RECORDS, len(self.orders))
            yield [
                InputRecord(ORDERS, event.user_id.encode(), _encoded(event), event.ts)
                for event in self._events(start, stop)
            ]

    def cancellations(self) -> Iterator[Block]:
        """The orders that were cancelled before the file was made, each placed and cancelled: for a
        state that topics tell of the same orders. They are no part of what the report counts."""
        cancelled = self.orders.cancelled
        if cancelled is None:
            return
        for start in range(0, len(cancelled.ts_ms), BLOCK_RECORDS):
            span = slice(start, start + BLOCK_RECORDS)
            columns = zip(
                _words(cancelled.user, span), _words(cancelled.order, span),
                cancelled.ts_ms[span].tolist(), strict=True,
            )  # fmt: skip
            yield [
                InputRecord(ORDERS, user.encode(), _encode(event), ts)
                for user, order_id, ts in columns
                for event in _placed_and_cancelled(user, order_id, ts)
            ]

    def summary(self) -> dict[str, Any]:
        """What was read, and how."""
        return self.report.as_dict()

    def _events(self, start: int, stop: int) -> Iterator[OrderEvent]:
        orders, lines = self.orders, self.orders.lines
        bounds = orders.first_line[start : stop + 1]
        low, high = int(bounds[0]), int(bounds[-1])
        part = slice(low, high)
        products = list(
            map(
                OrderLine,
                [w[:_LONGEST_NAME] for w in _words(lines.item, part)],
                (lines.cents[part] / 100).tolist(),
                lines.quantity[part].tolist(),
                [w[:_LONGEST_NAME] or None for w in _words(lines.category, part)],
                (lines.discount_cents[part] / 100).tolist(),
            )
        )
        span = slice(start, stop)
        columns = zip(
            _words(orders.user, span), _words(orders.order, span),
            _words(orders.document, span), orders.ts_ms[span].tolist(),
            (orders.cents[span] / 100).tolist(), (orders.discount_cents[span] / 100).tolist(),
            _words(orders.currency, span), orders.returned[span].tolist(),
            pairwise((bounds - low).tolist()), strict=True,
        )  # fmt: skip
        for user, order_id, document, ts, amount, discount, currency, returned, (a, b) in columns:
            by_time = f"at-{ts}"
            yield OrderEvent(
                event_id=f"{'r' if returned else 'o'}-{user}-{document or by_time}",
                user_id=user,
                type="returned" if returned else "placed",
                ts=ts,
                order_id=order_id or by_time,
                amount=amount,
                currency=currency or None,
                discount=discount,
                lines=products[a:b],
            )


def _placed_and_cancelled(user: str, order_id: str, ts_ms: int) -> Iterator[OrderEvent]:
    placed = OrderEvent(
        event_id=f"o-{user}-{order_id}", user_id=user, type="placed", ts=ts_ms,
        order_id=order_id, amount=0.0,
    )  # fmt: skip
    yield placed
    yield msgspec.structs.replace(placed, event_id=f"x-{user}-{order_id}", type="cancelled")


@dataclass(frozen=True)
class EventHistory:
    """A file of Tideline events as a source: its lines are the records."""

    report: Report
    records: Block
    is_export: ClassVar[bool] = False

    @property
    def expected_records(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, len(self.records), BLOCK_RECORDS):
            yield self.records[start : start + BLOCK_RECORDS]

    def cancellations(self) -> Iterator[Block]:
        """None: such events are among the records."""
        return iter(())

    def summary(self) -> dict[str, Any]:
        """What was read, and how."""
        return self.report.as_dict()


def _words(cells: Any, part: slice) -> list[str]:
    """The texts of some rows; "" for none."""
    codes = cells.codes[part]
    if not len(cells.texts):
        return [""] * len(codes)
    taken = cells.texts.take(_indices(codes)).to_pylist()
    return [text or "" for text in taken]


def _indices(codes: Any) -> Any:
    return pa.array(codes, mask=codes < 0)


def _encoded(event: OrderEvent) -> bytes:
    """The event as JSON; lines that make it too large for the worker are left off."""
    value = _encode(event)
    while len(value) > MAX_EVENT_BYTES or len(event.lines) > 5_000:
        event = msgspec.structs.replace(event, lines=event.lines[: len(event.lines) // 2])
        value = _encode(event)
    return value
