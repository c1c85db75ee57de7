"""What is shown of live records, and of those that are refused."""

from __future__ import annotations

import json

import numpy as np

from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.settings import Settings, override
from streams.shard.config import core_config
from streams.start.samples import live

NOW_MS = 1_800_000_000_000
CONFIG = core_config(override(Settings(), kafka_partitions=1, stream_currency="EUR"))


def records(*values: object) -> Records:
    n = len(values)
    texts = [v if isinstance(v, bytes) else json.dumps(v).encode() for v in values]
    keys = [str(v["user_id"]).encode() if isinstance(v, dict) else b"u" for v in values]
    return Records.of(np.arange(n) + 40, np.full(n, NOW_MS), keys, texts)


def click(n: int, **other: object) -> dict[str, object]:
    return {"event_id": f"c{n}", "user_id": f"u{n}", "type": "view", "ts": NOW_MS - n * 1000,
            **other}  # fmt: skip


def test_the_newest_are_shown_and_the_refused_counted_by_reason() -> None:
    future = click(9, ts=NOW_MS + 86_400_000)
    found = live(
        {
            ("clicks", 0): records(*(click(n) for n in range(5)), future, b"{"),
            ("orders", 0): records(b"{"),
        },
        "clicks", CLICKSTREAM, CONFIG, NOW_MS,
    )  # fmt: skip
    assert found.records == 7
    assert [line.split()[2] for line in found.newest] == ["u0", "u1", "u2"]
    assert found.refused == {"invalid_json": 1, "future_timestamp": 1}
    assert found.examples["invalid_json"].startswith("clicks/0/46: ")
    assert found.examples["future_timestamp"].startswith("clicks/0/45: ")


def test_order_is_shown_with_its_amount_and_lines() -> None:
    order = {"event_id": "o", "user_id": "u", "type": "placed", "ts": NOW_MS, "order_id": "7",
             "amount": 1234.5, "lines": [{"item_id": "i", "amount": 1}]}  # fmt: skip
    found = live({("orders", 0): records(order)}, "orders", ORDERS, CONFIG, NOW_MS)
    assert found.newest == ("2027-01-15 08:00:00  u  placed order 7, 1,234.50 EUR, 1 line",)


def test_an_empty_topic_has_nothing_to_show() -> None:
    found = live({}, "orders", ORDERS, CONFIG, NOW_MS)
    assert (found.records, found.newest, found.refused, found.examples) == (0, (), {}, {})
