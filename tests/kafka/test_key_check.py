"""Which of the newest records are in partitions that their keys don't belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from streams.core.partitioning import partitions_of_keys
from streams.kafka import key_check
from streams.kafka.key_check import SAMPLE_RECORDS, fitting_partitioners, misplaced_keys
from streams.settings import Settings, override

SETTINGS = override(Settings(), kafka_partitions=2)
CLICKS, ORDERS = SETTINGS.kafka.clickstream_topic, SETTINGS.kafka.orders_topic
KEYS = [b"customer-%d" % n for n in range(30)]


class Topics:
    """Records by topic, in place of a broker's; remembers what was asked for."""

    def __init__(self) -> None:
        self.records: dict[str, list[Any]] = {CLICKS: [], ORDERS: []}
        self.asked: list[tuple[str, int | None]] = []

    def read(self, _: Settings, topic: str, newest: int | None = None) -> Iterator[Any]:
        self.asked.append((topic, newest))
        yield from self.records[topic]

    def put(self, topic: str, keys: Iterable[bytes], partitions: Iterable[int]) -> None:
        here = self.records[topic]
        here += [
            SimpleNamespace(offset=100 + n, timestamp=n, key=key, value=b"{}", partition=partition)
            for n, (key, partition) in enumerate(zip(keys, partitions, strict=True), len(here))
        ]


@pytest.fixture
def topics(monkeypatch: pytest.MonkeyPatch) -> Topics:
    found = Topics()
    monkeypatch.setattr(key_check, "topic_records", found.read)
    return found


def test_records_where_they_belong_are_no_finding(topics: Topics) -> None:
    topics.put(ORDERS, KEYS, partitions_of_keys(KEYS, "murmur2", 2).tolist())
    assert list(misplaced_keys(SETTINGS)) == []
    assert topics.asked == [(CLICKS, SAMPLE_RECORDS), (ORDERS, SAMPLE_RECORDS)]


def test_misplaced_records_are_counted_for_each_partition_of_each_topic(topics: Topics) -> None:
    right = partitions_of_keys(KEYS, "murmur2", 2).tolist()
    topics.put(ORDERS, KEYS, right)
    topics.put(CLICKS, KEYS, [0] * len(KEYS))
    topics.put(ORDERS, KEYS[:3], [1 - p for p in right[:3]])
    found = {(each.topic, each.partition): each for each in misplaced_keys(SETTINGS)}
    clicks = found.pop((CLICKS, 0))
    assert (clicks.looked_at, clicks.misplaced) == (len(KEYS), sum(right))
    assert clicks.offset == 100 + max(n for n, p in enumerate(right) if p)
    assert "partition" in clicks.explanation
    assert sum(each.misplaced for each in found.values()) == 3
    assert {topic for topic, _ in found} == {ORDERS}
    for (_, partition), each in found.items():
        assert each.looked_at == right.count(partition) + right[:3].count(1 - partition)
        assert each.offset >= 100 + len(KEYS)


def test_nothing_is_read_if_partitions_are_not_checked(topics: Topics) -> None:
    topics.put(CLICKS, KEYS, [0] * len(KEYS))
    assert list(misplaced_keys(override(SETTINGS, kafka_partitioner="unchecked"))) == []
    assert topics.asked == []


def test_the_partitioners_that_fit_are_those_that_put_every_key_where_it_is(topics: Topics) -> None:
    topics.put(CLICKS, KEYS, partitions_of_keys(KEYS, "crc32", 2).tolist())
    newest = key_check.newest_records(SETTINGS, [CLICKS, ORDERS], 7)
    assert list(newest) == [(CLICKS, 0), (CLICKS, 1)], "an empty topic is left out"
    assert fitting_partitioners(newest, 2) == ("crc32",)
    right = partitions_of_keys(KEYS, "crc32", 2)
    topics.put(CLICKS, KEYS[:1], [1 - int(right[0])])
    assert fitting_partitioners(key_check.newest_records(SETTINGS, [CLICKS]), 2) == ()
    assert topics.asked[0] == (CLICKS, 7)
