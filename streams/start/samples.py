"""Shows records as Tideline reads them, one per line, and counts the refused by reason. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np

from schemas.events import ClickEvent, OrderEvent
from streams.core.canaries import set_apart
from streams.core.config import CoreConfig
from streams.core.contacts import take_contacts
from streams.core.events.decode import decode, decode_ours
from streams.core.events.records import CLICKSTREAM, Records

__all__ = ["Live", "live", "sentence"]

SHOWN: Final = 3
_click: Final = msgspec.json.Decoder(ClickEvent).decode
_order: Final = msgspec.json.Decoder(OrderEvent).decode


@dataclass(frozen=True)
class Live:
    """The newest records of a topic: how many are read, the newest few, and those refused."""

    topic: str
    records: int
    newest: tuple[str, ...]
    refused: Mapping[str, int]
    """Records by reason, the most frequent first."""
    examples: Mapping[str, str]
    """Reason -> where such a record is, and what is wrong with it."""


def live(
    records: Mapping[tuple[str, int], Records], topic: str, source: int, config: CoreConfig,
    clock_ms: int,
) -> Live:  # fmt: skip
    """What a worker would make of `records`, by (topic, partition), of one topic."""
    refused: Counter[str] = Counter()
    found: list[tuple[int, bytes]] = []
    examples: dict[str, str] = {}
    count = 0
    for (name, partition), some in records.items():
        if name != topic:
            continue
        events = (
            decode(some, source, config.decode, clock_ms)
            if config.partitioner is None
            else decode_ours(some, source, config.decode, clock_ms, partition, config.partitioner)
        )
        events, canaries = set_apart(events)
        events, contacts = take_contacts(events)
        count += len(some) - len(canaries) - len(contacts.said)
        for reject in events.rejects:
            refused[reject.reason] += 1
            at = f"{topic}/{partition}/{some.offsets[reject.position]}"
            examples[reject.reason] = f"{at}: {reject.detail}"
        newest = np.argsort(events.ts_ms, kind="stable")[-SHOWN:]
        found += [
            (int(events.ts_ms[i]), some.values[int(events.positions[i])] or b"")
            for i in newest.tolist()
        ]
    found.sort(key=lambda each: -each[0])
    lines = tuple(sentence(value, source, config.decode.currency) for _, value in found[:SHOWN])
    return Live(topic, count, lines, dict(refused.most_common()), examples)


def sentence(value: bytes, source: int, currency: str) -> str:
    """An event in one line.

    >>> order = b'{"event_id":"1","user_id":"u-4","type":"placed","ts":0,"order_id":"7","amount":9}'
    >>> sentence(order, 1, "EUR")
    '1970-01-01 00:00:00  u-4  placed order 7, 9.00 EUR'
    """
    if source == CLICKSTREAM:
        click = _click(value)
        about = " ".join(filter(None, (click.item_id, click.category and f"({click.category})")))
        return f"{_time(click.ts)}  {click.user_id}  {click.type} {about}".rstrip()
    order = _order(value)
    lines = len(order.lines)
    of = f", {lines} line{'s' if lines != 1 else ''}" if lines else ""
    return (
        f"{_time(order.ts)}  {order.user_id}  {order.type} order {order.order_id}, "
        f"{order.amount:,.2f} {order.currency or currency}{of}"
    )


def _time(ts_ms: int) -> str:
    return datetime.fromtimestamp(ts_ms / 1000, UTC).isoformat(" ", "seconds")[:19]
