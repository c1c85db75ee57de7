"""What Kafka says about consumer groups, and about when records were written. Every call is for one
group: kafka-python raises for all groups if one of them fails. Its errors pass through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kafka import TopicPartition

from streams.kafka.committed import Committed
from streams.kafka.end_offsets import Partition

__all__ = [
    "Membership",
    "committed_by",
    "group_names",
    "membership",
    "newest_records",
    "oldest_records",
]

_NEWEST: Final = -3  # ListOffsets' MAX_TIMESTAMP, from Kafka 3.0 on
_STABLE: Final = "Stable"


@dataclass(frozen=True)
class Membership:
    """Who is in a group.

    topics: what its members subscribe to; None: not known, as while they join or have left.
    owners: the member that has a partition, as client id and host.
    """

    members: int
    topics: frozenset[str] | None
    owners: Mapping[Partition, str] = field(default_factory=dict)


def group_names(admin: Any) -> list[str]:
    """The cluster's consumer groups that this user may see, sorted."""
    return sorted(
        group["group_id"]
        for group in admin.list_groups()
        if group.get("protocol_type") in ("", "consumer")
    )


def committed_by(admin: Any, group: str) -> dict[Partition, Committed]:
    """What a group has committed; partitions without a commit are missing or negative."""
    found = admin.list_group_offsets(group)[group]
    return {
        (at.topic, at.partition): Committed.of(each.offset, each.metadata)
        for at, each in found.items()
    }


def membership(admin: Any, group: str) -> Membership | None:
    """Who is in a group; None: the broker does not say. Raises ValueError for an answer that
    kafka-python can't read, such as the local broker's."""
    found = admin.describe_groups([group])[group]
    if found["error"]:
        return None
    members = found["members"]
    topics: set[str] = set()
    owners: dict[Partition, str] = {}
    known = found["group_state"] == _STABLE and bool(members)
    for member in members:
        subscription, assignment = member["member_metadata"], member["member_assignment"]
        if not isinstance(subscription, Mapping):
            known = False  # a protocol that is not the consumer's
        else:
            topics.update(subscription["topics"])
        if isinstance(assignment, Mapping):
            name = f"{member['client_id']} {member['client_host']}"
            for topic in assignment["assigned_partitions"]:
                owners.update({(topic["topic"], n): name for n in topic["partitions"]})
    return Membership(len(members), frozenset(topics) if known else None, owners)


def oldest_records(admin: Any, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
    """(offset, timestamp in ms) of the first record that each log still has; empty logs are left
    out. It is asked for as the first record since 1970, as "earliest" comes without a time."""
    return _records(admin, partitions, 0)


def newest_records(admin: Any, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
    """(offset, timestamp in ms) of the record with the newest timestamp of each log."""
    return _records(admin, partitions, _NEWEST)


def _records(
    admin: Any, partitions: Iterable[Partition], spec: int
) -> dict[Partition, tuple[int, int]]:
    found = admin.list_partition_offsets({TopicPartition(*place): spec for place in partitions})
    return {
        (at.topic, at.partition): (each.offset, each.timestamp)
        for at, each in found.items()
        if each.offset >= 0 and each.timestamp > 0
    }
