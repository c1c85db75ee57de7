"""Kafka's admin API: what is asked of it, what its answers mean, and its errors as ours."""

from __future__ import annotations

from typing import Any

import pytest
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import BrokerUnavailable
from streams.kafka import admin, clients
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import Cluster, cluster, committed_offsets, connect, partition_counts


def topic(name: str, partitions: int, error: int = 0, internal: bool = False) -> dict[str, Any]:
    return {
        "name": name, "partitions": [{}] * partitions, "error_code": error, "is_internal": internal
    }  # fmt: skip


class Admin:
    """Answers as kafka-python's client does."""

    def __init__(self, topics: list[dict[str, Any]]) -> None:
        self._topics = topics
        self.closed = False

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def describe_topics(self, names: list[str] | None = None) -> list[dict[str, Any]]:
        return [t for t in self._topics if names is None or t["name"] in names]

    def describe_cluster(self) -> dict[str, Any]:
        return {"brokers": [{}, {}, {}]}

    def list_group_offsets(self, group: str) -> dict[str, Any]:
        return {
            group: {
                TopicPartition("orders", 1): OffsetAndMetadata(7, "", -1),
                TopicPartition("orders", 0): OffsetAndMetadata(-1, "", -1),
            }
        }


TOPICS = [
    topic("orders", 4), topic("clicks", 2), topic("gone", 0, error=3), topic("hidden", 3, error=29),
    topic("__consumer_offsets", 50, internal=True),
]  # fmt: skip


def test_a_topic_that_does_not_exist_has_no_partition_count() -> None:
    assert partition_counts(Admin(TOPICS), ["orders", "gone"]) == {"orders": 4}


def test_a_cluster_has_the_topics_that_are_no_secret_and_not_kafka_s_own() -> None:
    assert cluster(Admin(TOPICS)) == Cluster(3, {"orders": 4, "clicks": 2})


def test_committed_offsets_are_by_topic_and_partition() -> None:
    assert committed_offsets(Admin([]), "app") == {("orders", 1): 7, ("orders", 0): -1}


def test_nobody_is_asked_before_it_is_known_that_somebody_answers(
    dead_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """kafka-python's client would leave a thread and its files behind."""
    made: list[Any] = []
    monkeypatch.setattr(clients, "admin", lambda *given, **_: made.append(given))
    with pytest.raises(BrokerUnavailable, match=dead_broker), connect([dead_broker]):
        pass
    assert not made


@pytest.mark.parametrize("error", [KafkaTimeoutError("slow"), ConnectionResetError("gone")])
def test_an_error_of_kafka_s_is_one_of_ours_and_the_client_is_closed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, options = Admin([]), {}
    reached: list[Any] = []
    monkeypatch.setattr(clients, "admin", lambda access, **given: options.update(given) or made)
    monkeypatch.setattr(admin, "require_reachable", lambda *given: reached.append(given))

    def use() -> None:
        with connect(["a:1"], 2.5) as connected:
            assert connected is made
            assert not made.closed
            raise error

    with pytest.raises(BrokerUnavailable, match="a:1 does not answer") as raised:
        use()
    assert raised.value.__cause__ is error
    assert made.closed
    assert reached == [(KafkaAccess(("a:1",)), 2.5)]
    assert options == {
        "bootstrap_timeout_ms": 2500, "request_timeout_ms": 2500, "client_id": "tideline-admin"
    }  # fmt: skip


def test_an_error_of_the_caller_s_stays_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "admin", lambda *_, **__: Admin([]))
    monkeypatch.setattr(admin, "require_reachable", lambda *_: None)
    with pytest.raises(ZeroDivisionError), connect(["a:1"]):
        raise ZeroDivisionError
