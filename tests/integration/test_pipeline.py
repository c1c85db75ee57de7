"""From events to answers through real processes, a real broker and a real ClickHouse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.messages import AlertMessage
from streams.kafka.log import KafkaLog
from streams.learner.snapshots import newest_snapshot
from streams.replay.synthetic import Synthetic
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]

DAY_MS = 86_400_000
Worlds = Callable[..., World]


def shop(events: int, **changes: Any) -> Synthetic:
    options: dict[str, Any] = {
        "users": 200, "events": events, "order_share": 0.3, "skew": 0.8, "span_days": 80.0,
        "late_share": 0.01, "duplicate_share": 0.02, "out_of_order_share": 0.05,
        "malformed_share": 0.01, "seed": 11,
    } | changes  # fmt: skip
    return Synthetic(**options)


def test_events_become_scores_alerts_segments_and_what_the_learner_learned_comes_back(
    world: Worlds,
) -> None:
    here = world()
    first = shop(3_500, users=120)
    here.learner()
    worker = here.worker()
    sent = here.produce(first).records
    here.wait_accepted(sent)
    assert here.ledger() == {
        "accepted": sent, "scored": first.tally.good, "duplicates": first.tally.duplicate,
        "late": first.tally.late, "dead_letters": sum(first.tally.malformed.values()),
    }  # fmt: skip

    assert here.one("SELECT count() FROM scores_live WHERE NOT isNaN(p_churn)") > 90
    assert here.one("SELECT count() FROM alert_history") > 20
    assert here.one("SELECT count() FROM alerts WHERE version = 1 AND empty(reasons)") == 0
    sizes = dict(here.sql("SELECT segment, users FROM segment_sizes WHERE dimension = 'lifecycle'"))
    assert sizes["active"] > 0
    assert sum(sizes.values()) == here.one("SELECT count() FROM scores_live")
    matured = here.one("SELECT count() FROM matured_predictions FINAL")
    assert matured > 100

    async def snapshot() -> Any:
        log = KafkaLog(here.settings.kafka.brokers)
        await log.start()
        try:
            return await newest_snapshot(log, here.settings.topic_names.learner)
        finally:
            await log.stop()

    def learned() -> bool:
        found = asyncio.run(snapshot())
        return found is not None and found.labels == matured

    here.wait("every matured label learned", learned)
    # The snapshot comes back with the next events, and is in the rows that they make.
    more = shop(500, start_ms=first.start_ms + 81 * DAY_MS, span_days=2.0, seed=12)
    sent += here.produce(more).records
    here.wait_accepted(sent)
    assert here.one("SELECT max(learner_version) FROM scores_live") > 0
    here.ledger()
    here.check_views()
    assert worker.stop()[0] == 0
    oracles = here.check_oracle()
    assert any(o.state.meta.learner is not None for o in oracles.values())
    assert kafka_alerts(here) == here.one("SELECT count() FROM alerts FINAL")


def kafka_alerts(here: World) -> int:
    """Different alert messages in Kafka: an opening or a closing each."""

    async def read() -> int:
        log = KafkaLog(here.settings.kafka.brokers)
        await log.start()
        found = set()
        try:
            for shard in range(here.settings.kafka.partitions):
                topic = here.settings.topic_names.alerts
                records = await log.read(topic, shard, *(await log.ends(topic, shard)))
                for key, value in zip(records.keys, records.values, strict=True):
                    alert = msgspec.json.decode(value or b"", type=AlertMessage)
                    assert key == alert.user_id.encode()
                    found.add((alert.alert_id, alert.state))
        finally:
            await log.stop()
        return len(found)

    return asyncio.run(read())


@pytest.mark.parametrize("which", ["kafka_broker", "tansu"])
def test_an_event_is_a_score_and_an_alert_within_a_second_or_so(
    world: Worlds, which: str, request: pytest.FixtureRequest, record_property: Any
) -> None:
    """By the clock on the wall, one event at a time, as in a quiet hour."""
    here = world(
        request.getfixturevalue(which), stream_clock="wall", alerts_enter=1e-9, alerts_leave=0.0,
        alerts_min_orders=0, kafka_partitions=2,
    )  # fmt: skip
    worker = here.worker()
    here.own(worker)
    producer: Any = None
    seconds: list[float] = []

    async def send(user: str, n: int, at_ms: int) -> None:
        nonlocal producer
        producer = AIOKafkaProducer(bootstrap_servers=here.settings.kafka.broker_url)
        await producer.start()
        order = {
            "event_id": f"e{n}", "order_id": f"o{n}", "user_id": user, "type": "placed",
            "ts": at_ms, "amount": 20.0,
        }  # fmt: skip
        value = msgspec.json.encode(order)
        await producer.send_and_wait(
            here.inputs.orders, value, key=user.encode(), timestamp_ms=at_ms
        )
        await producer.stop()

    for n in range(6):
        user = f"user-{n}"
        now_ms = time.time_ns() // 1_000_000
        # Nobody is scored on one order. The second one, seen here, raises the alert: a second after
        # the first, and already a minute ago.
        asyncio.run(send(user, n, now_ms - 61_000))
        asyncio.run(send(user, n + 100, now_ms - 60_000))
        started = time.monotonic()
        here.wait(
            "the score",
            lambda user=user: (
                here.one(  # type: ignore[misc]
                    f"SELECT count() FROM scores_live WHERE user_id = '{user}'"
                )
                == 1
            ),
            interval_seconds=0.05,
        )
        here.wait(
            "the alert",
            lambda user=user: (
                here.one(  # type: ignore[misc]
                    f"SELECT count() FROM churn_alerts_live WHERE user_id = '{user}'"
                )
                == 1
            ),
            interval_seconds=0.05,
        )
        seconds.append(time.monotonic() - started)
    record_property("seconds_to_alert", seconds)
    assert sorted(seconds)[len(seconds) // 2] < 3.0, seconds
    assert worker.stop()[0] == 0
    here.check_oracle()
