"""10,000 messages that no shop should send, among good ones: nothing stops, nothing gets lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.messages import DeadLetter
from streams.core.events.decode import REASONS
from streams.core.partitioning import partitions_of_keys
from streams.kafka.log import KafkaLog
from streams.replay.records import CLICKSTREAM, InputRecord
from streams.replay.synthetic import Synthetic
from tests.integration.fuzz import Fuzzed, fuzzed
from tests.integration.world import World

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(900)]

BAD, GOOD, SEED = 10_000, 5_000, 20_261
PARTITIONS = 2
Place = tuple[str, int, int]
"""Topic, partition, offset."""


def mixed(good: list[InputRecord], bad: list[Fuzzed]) -> list[InputRecord | Fuzzed]:
    """Two bad ones after each good one, as far as they go."""
    found: list[InputRecord | Fuzzed] = []
    for i, record in enumerate(good):
        found += [record, *bad[2 * i : 2 * i + 2]]
    return found + list(bad[2 * len(good) :])


async def send(here: World, records: list[InputRecord | Fuzzed]) -> dict[Place, str]:
    """Send all; returns where each bad one landed and the reason it must be refused for."""
    producer = AIOKafkaProducer(
        bootstrap_servers=here.settings.kafka.broker_url, max_request_size=4_000_000
    )
    await producer.start()
    expected: dict[Place, str] = {}
    waiting = []
    at_ms = 0
    for n, record in enumerate(records):
        if isinstance(record, InputRecord):
            at_ms = record.timestamp_ms
            topic = here.inputs[record.topic_kind]
        else:
            topic = here.inputs.orders if record.order else here.inputs.clickstream
        future = await producer.send(
            topic, record.value, key=record.key, partition=_partition(record, n), timestamp_ms=at_ms
        )
        waiting.append((record, future))
    for record, future in waiting:
        landed = await future
        if isinstance(record, Fuzzed):
            expected[landed.topic, landed.partition, landed.offset] = record.reason
    await producer.stop()
    return expected


def _partition(record: InputRecord | Fuzzed, n: int) -> int:
    if record.key is None:
        return n % PARTITIONS
    return int(partitions_of_keys([record.key], "murmur2", PARTITIONS)[0])


async def dead_letters(here: World) -> dict[Place, DeadLetter]:
    log = KafkaLog(here.settings.kafka.brokers)
    await log.start()
    found = {}
    try:
        for shard in range(PARTITIONS):
            topic = here.settings.topic_names.dead_letters
            records = await log.read(topic, shard, *(await log.ends(topic, shard)))
            for value in records.values:
                letter = msgspec.json.decode(value or b"", type=DeadLetter)
                place = (letter.topic, letter.partition, letter.offset)
                assert place not in found, "a dead letter was sent twice"
                found[place] = letter
    finally:
        await log.stop()
    return found


def test_ten_thousand_fuzzed_messages_are_dead_letters_and_every_good_one_is_scored(
    world: Callable[..., World],
) -> None:
    here = world(
        kafka_partitions=PARTITIONS, kafka_partitioner="unchecked"
    )  # bad records go anywhere
    source = Synthetic(users=300, events=GOOD, order_share=0.3, span_days=20.0, seed=SEED)
    good = [record for block in source for record in block]
    assert source.tally.good == GOOD
    assert {r.topic_kind for r in good} == {CLICKSTREAM, "orders"}
    bad = list(fuzzed(BAD, SEED, source.start_ms))
    worker = here.worker()
    expected = asyncio.run(send(here, mixed(good, bad)))
    assert len(expected) == BAD
    here.wait_accepted(BAD + GOOD)

    assert here.ledger() == {
        "accepted": BAD + GOOD, "scored": GOOD, "duplicates": 0, "late": 0, "dead_letters": BAD,
    }  # fmt: skip
    assert here.one("SELECT count() FROM scores_live") == len({r.key for r in good})
    stored = {
        (topic, partition, offset): reason
        for topic, partition, offset, reason in here.sql(
            "SELECT topic, partition, offset, reason FROM dead_letters FINAL"
        )
    }
    sent = asyncio.run(dead_letters(here))
    assert stored.keys() == sent.keys() == expected.keys()
    wrong = Counter(
        (reason, stored[place], sent[place].reason)
        for place, reason in expected.items()
        if not (reason in ("*", stored[place]) and sent[place].reason == stored[place])
    )
    assert not wrong, wrong.most_common(5)
    assert set(stored.values()) <= set(REASONS)
    assert all(letter.detail for letter in sent.values())
    assert max(len(letter.payload or b"") for letter in sent.values()) <= 4096
    assert here.one("SELECT count() FROM dead_letters WHERE detail = ''") == 0
    assert worker.stop()[0] == 0
    assert "Traceback" not in worker.log
    here.check_oracle()
