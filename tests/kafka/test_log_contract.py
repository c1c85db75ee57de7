"""What every `streams.kafka.log.Log` must do: the one in memory, and Kafka's on both brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.errors import BrokerUnavailable, StateError
from streams.kafka import log as log_module
from streams.kafka.log import KafkaLog, Log
from streams.local.kafka import ApacheKafka
from streams.local.process import free_port
from streams.local.tansu import TansuBroker
from streams.shard.worker_clock import clock_lead_ms
from tests.one_broker import numbers
from tests.shard.memory import MemoryLog

_NUMBERS = numbers()
Check = Callable[[Log, str], Awaitable[None]]


class OnMemory:
    def run(self, check: Check) -> None:
        asyncio.run(check(MemoryLog(), "topic"))  # type: ignore[arg-type]


class OnKafka:
    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    def run(self, check: Check) -> None:
        async def go() -> None:
            topic = f"contract-{next(_NUMBERS)}"
            admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
            await admin.start()
            await admin.create_topics([NewTopic(topic, 2, 1)])
            await admin.close()
            log = KafkaLog([self._bootstrap])
            await log.start()
            try:
                await check(log, topic)
            finally:
                await log.stop()

        asyncio.run(go())


@pytest.fixture(params=["memory", "apache_kafka", "tansu"])
def system(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        return OnMemory()
    return OnKafka(request.getfixturevalue(request.param).bootstrap)


@pytest.fixture(autouse=True)
def short_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "READ_STALL_SECONDS", 1.5)


def test_records_can_have_another_time_than_now(tansu: TansuBroker) -> None:
    """A replay's clock goes by it (`streams.console.sender`)."""

    async def check(log: Log, topic: str) -> None:
        assert isinstance(log, KafkaLog)
        await log.append(topic, 0, [(b"a", b"1")], stamp_ms=1_500_000_000_000)
        found = await log.read(topic, 0, 0, 1)
        assert found.timestamps_ms.tolist() == [1_500_000_000_000]

    OnKafka(tansu.bootstrap).run(check)


def test_offsets_count_up_from_zero_by_partition(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        assert await log.append(topic, 0, [(b"a", b"1"), (b"b", b"2")]) == [0, 1]
        assert await log.append(topic, 0, [(None, b"3")]) == [2]
        assert await log.append(topic, 1, [(b"c", None)]) == [0]
        assert await log.append(topic, 1, []) == []

    system.run(check)


def test_ends_are_exact_from_the_empty_log_on(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        assert await log.ends(topic, 0) == (0, 0)
        await log.append(topic, 0, [(None, b"x")] * 7)
        assert await log.ends(topic, 0) == (0, 7)
        await log.append(topic, 0, [(None, b"x")])
        assert await log.ends(topic, 0) == (0, 8)
        assert await log.ends(topic, 1) == (0, 0)

    system.run(check)


def test_a_range_comes_back_as_it_was_written(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        written = [(None, b"0"), (b"k", None), (b"", b""), (b"k", b"3"), (b"l", b"4")]
        await log.append(topic, 0, written[:3])
        await log.append(topic, 0, written[3:])
        whole = await log.read(topic, 0, 0, 5)
        assert whole.offsets.tolist() == [0, 1, 2, 3, 4]
        assert list(zip(whole.keys, whole.values, strict=True)) == written
        part = await log.read(topic, 0, 1, 4)
        assert part.offsets.tolist() == [1, 2, 3]
        assert list(part.values) == [None, b"", b"3"]
        assert len(await log.read(topic, 0, 3, 3)) == 0

    system.run(check)


def test_appends_of_one_client_land_in_the_order_of_the_calls(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        calls = [log.append(topic, 0, [(None, b"%d" % i)] * 2) for i in range(50)]
        offsets = await asyncio.gather(*calls)
        assert [offset for pair in offsets for offset in pair] == list(range(100))
        records = await log.read(topic, 0, 0, 100)
        assert list(records.values) == [b"%d" % (i // 2) for i in range(100)]

    system.run(check)


def test_megabytes_of_pages_come_back_whole(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        pages = [(b"page/%d" % i, bytes([i]) * 262_144) for i in range(48)]
        offsets = await log.append(topic, 0, pages)
        assert offsets == list(range(48))
        records = await log.read(topic, 0, 0, 48)
        assert list(zip(records.keys, records.values, strict=True)) == pages

    system.run(check)


def test_ranges_can_be_read_concurrently(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        for p in (0, 1):
            await log.append(topic, p, [(None, b"%d" % p)] * 20)
        parts = await asyncio.gather(*(log.read(topic, i % 2, i, 20) for i in range(6)))
        ends = await asyncio.gather(*(log.ends(topic, i % 2) for i in range(4)))
        assert [len(part) for part in parts] == [20, 19, 18, 17, 16, 15]
        assert [set(part.values) for part in parts] == [{b"0"}, {b"1"}] * 3
        assert ends == [(0, 20)] * 4

    system.run(check)


def test_a_range_that_the_log_does_not_have_is_a_state_error(system: Any) -> None:
    async def check(log: Log, topic: str) -> None:
        await log.append(topic, 0, [(None, b"x")] * 3)
        with pytest.raises(StateError, match=topic):
            await log.read(topic, 0, 1, 9)

    system.run(check)


@pytest.mark.parametrize("broker", ["apache_kafka", "tansu"])
def test_ends_of_several_partitions_are_listed_while_the_log_is_read(
    request: pytest.FixtureRequest, broker: str
) -> None:
    async def check(log: Log, topic: str) -> None:
        assert isinstance(log, KafkaLog)
        for i in range(4):
            await log.append(topic, 0, [(None, b"%d" % i)])
        places = [(topic, 0), (topic, 1)]
        found, whole = await asyncio.gather(log.listed_ends(places), log.read(topic, 0, 0, 4))
        assert found == {(topic, 0): 4, (topic, 1): 0}
        assert len(whole) == 4
        async with log._reading:  # whoever reads does not keep it waiting
            async with asyncio.timeout(60):
                assert await log.listed_ends(places) == found

    OnKafka(request.getfixturevalue(broker).bootstrap).run(check)


def test_no_broker_is_a_broker_error_that_names_the_address() -> None:
    async def go() -> None:
        address = f"127.0.0.1:{free_port()}"
        with pytest.raises(BrokerUnavailable, match=address):
            await KafkaLog([address]).start()

    asyncio.run(go())


@pytest.mark.parametrize("by_broker", [True, False])
def test_a_broker_s_stamp_is_handed_on_and_lies_between_sending_and_answer(
    apache_kafka: ApacheKafka, by_broker: bool
) -> None:
    async def go() -> None:
        topic = f"stamped-{next(_NUMBERS)}"
        config = {"message.timestamp.type": "LogAppendTime"} if by_broker else {}
        admin = AIOKafkaAdminClient(bootstrap_servers=apache_kafka.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=config)])
        await admin.close()
        stamps: list[tuple[int, int, int]] = []
        log = KafkaLog([apache_kafka.bootstrap], lambda *times: stamps.append(times))
        await log.start()
        try:
            await log.append(topic, 0, [(b"k", b"1"), (b"k", b"2")])
            await log.append(topic, 0, [])
        finally:
            await log.stop()
        assert len(stamps) == by_broker
        for sent, answered, stamped in stamps:
            assert sent <= stamped <= answered
            assert clock_lead_ms(sent, answered, stamped) == 0

    asyncio.run(go())
