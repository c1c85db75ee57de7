"""What is made of Kafka's answers about groups and record times."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata, OffsetAndTimestamp

from streams.kafka.commits import _noted
from streams.kafka.committed import Committed
from streams.kafka.groups import (
    Membership,
    committed_by,
    group_names,
    membership,
    newest_records,
    oldest_records,
)


def member(number: int, topics: list[str] | None, **assigned: list[int]) -> dict[str, Any]:
    return {
        "client_id": f"c{number}",
        "client_host": f"/10.0.0.{number}",
        "member_metadata": b"connect" if topics is None else {"topics": topics, "user_data": None},
        "member_assignment": {
            "assigned_partitions": [
                {"topic": topic, "partitions": numbers} for topic, numbers in assigned.items()
            ]
        },
    }


class Admin:
    """Answers as kafka-python's client does."""

    def __init__(self, state: str = "Stable", *members: dict[str, Any], error: str = "") -> None:
        self.group = {"group_state": state, "members": list(members), "error": error or None}
        self.asked: list[dict[TopicPartition, int]] = []

    def list_groups(self) -> list[dict[str, Any]]:
        return [
            {"group_id": "shop", "protocol_type": "consumer"},
            {"group_id": "simple", "protocol_type": ""},
            {"group_id": "connect-sink", "protocol_type": "connect"},
        ]

    def list_group_offsets(self, group: str) -> dict[str, Any]:
        return {
            group: {
                TopicPartition("orders", 0): OffsetAndMetadata(7, "applied_ms=123456", 0),
                TopicPartition("orders", 1): OffsetAndMetadata(9, None, 0),
            }
        }

    def describe_groups(self, groups: list[str]) -> dict[str, Any]:
        return {groups[0]: self.group}

    def list_partition_offsets(self, specs: dict[TopicPartition, int]) -> dict[Any, Any]:
        self.asked.append(specs)
        return {
            TopicPartition("orders", 0): OffsetAndTimestamp(3, 1_000, 0),
            TopicPartition("orders", 1): OffsetAndTimestamp(-1, -1, 0),  # it is empty
        }


def test_groups_of_consumers_are_listed() -> None:
    assert group_names(Admin()) == ["shop", "simple"]


def test_a_commit_may_tell_the_time_of_the_record_before_it() -> None:
    assert committed_by(Admin(), "shop") == {
        ("orders", 0): Committed(7, 123_456), ("orders", 1): Committed(9),
    }  # fmt: skip


@pytest.mark.parametrize("applied_ms", [0, 1_700_000_000_123])
def test_the_note_that_is_committed_is_the_note_that_is_read(applied_ms: int) -> None:
    sent = _noted(Committed(5, applied_ms))
    assert Committed.of(sent.offset, sent.metadata) == Committed(5, applied_ms)
    assert (_noted(5).offset, _noted(5).metadata) == (5, "")


@pytest.mark.parametrize("note", ["applied_ms=", "applied_ms=-4", "applied_ms=4x", "7", "", None])
def test_another_note_is_none(note: str | None) -> None:
    assert Committed.of(5, note) == Committed(5)


def test_members_have_topics_and_partitions() -> None:
    admin = Admin("Stable", member(1, ["orders"], orders=[0, 2]), member(2, ["orders", "clicks"]))
    assert membership(admin, "shop") == Membership(
        2, frozenset({"orders", "clicks"}),
        {("orders", 0): "c1 /10.0.0.1", ("orders", 2): "c1 /10.0.0.1"},
    )  # fmt: skip


def test_who_subscribes_is_not_known_without_members_or_while_they_join() -> None:
    empty = membership(Admin("Empty"), "shop")
    assert empty == Membership(0, None)
    joining = membership(Admin("PreparingRebalance", member(1, ["orders"])), "shop")
    assert joining is not None
    assert joining.topics is None
    other = membership(Admin("Stable", member(1, None), member(2, ["orders"])), "shop")
    assert other is not None
    assert other.topics is None, "one protocol that can't be read may hold any topic"
    assert membership(Admin(error="GroupAuthorizationFailedError"), "shop") is None


def test_records_come_with_their_times_and_empty_logs_are_left_out() -> None:
    admin, places = Admin(), [("orders", 0), ("orders", 1)]
    assert oldest_records(admin, places) == {("orders", 0): (3, 1_000)}
    assert newest_records(admin, places) == {("orders", 0): (3, 1_000)}
    assert [set(asked.values()) for asked in admin.asked] == [{0}, {-3}]
