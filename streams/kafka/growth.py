"""Topics for more partitions: new input topics like the old ones, and more partitions for our own.

Input topics can't grow in place: producers would send a customer's new records to another partition
while older ones wait in the old partition. Our own topics can, as Tideline writes to partitions by
number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import TopicAlreadyExistsError, for_code
from kafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import FatalError
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import committed_offsets, connect, partition_counts

__all__ = ["add_partitions", "commit_for", "committed_by", "counts_of", "create_like"]

_SET_FOR_TOPIC: Final = "DYNAMIC_TOPIC_CONFIG"  # in place of the broker's default


def counts_of(access: KafkaAccess, names: Sequence[str]) -> dict[str, int]:
    """How many partitions each topic has; one that does not exist is left out. Raises
    BrokerUnavailable."""
    with connect(access) as admin:
        return partition_counts(admin, names)


def create_like(access: KafkaAccess, new: Mapping[str, str], partitions: int) -> list[str]:
    """Create the topics that are missing, each with the replicas and configuration of another one.
    `new`: name -> the other one's name. Returns the names of the topics that were created.

    Raises BrokerUnavailable, or FatalError if a topic is refused, or is there with another number
    of partitions.
    """
    created = []
    with connect(access) as admin:
        counts = partition_counts(admin, list(new))
        for name, like in new.items():
            if name not in counts:
                _create(admin, name, partitions, like)
                created.append(name)
        if created:
            admin.wait_for_topics(created)
        for name, count in partition_counts(admin, list(new)).items():
            if count != partitions:
                raise FatalError(
                    f"{name} has {count} partitions, needed are {partitions}. Choose another name, "
                    "or delete the topic if it is empty."
                )
    return created


def _create(admin: Any, name: str, partitions: int, like: str) -> None:
    (described,) = admin.describe_topics([like])
    replicas = len(described["partitions"][0]["replica_nodes"])
    answer = admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, like)], config_filter="all"
    )
    config = {
        key: entry["value"]
        for key, entry in answer["topic"][like].items()
        if entry["config_source"] == _SET_FOR_TOPIC and entry["value"] is not None
    }
    new = NewTopic(name, partitions, replicas, topic_configs=config)
    answered = admin.create_topics([new], raise_errors=False)["topics"][0]
    error = for_code(answered["error_code"])
    if answered["error_code"] and error is not TopicAlreadyExistsError:
        raise FatalError(
            f"Kafka refused to create topic {name}: {error.__name__}: "
            f"{answered.get('error_message') or 'no reason given'}. Check this user's rights, or "
            f"create it with {partitions} partitions yourself, and run the command again."
        )


def add_partitions(access: KafkaAccess, names: Sequence[str], partitions: int) -> list[str]:
    """Grow each topic to `partitions`; returns the names of the topics that had fewer.

    Raises BrokerUnavailable, or FatalError if a topic is missing or has more.
    """
    with connect(access) as admin:
        counts = partition_counts(admin, names)
        for name in names:
            if counts.get(name, 0) > partitions or name not in counts:
                has = (
                    f"has {counts[name]} partitions, more than the {partitions} that are needed"
                    if name in counts
                    else "does not exist"
                )
                raise FatalError(f"Topic {name} {has}. Check TIDELINE_KAFKA_APP_ID.")
        short = [name for name in names if counts[name] < partitions]
        if short:
            admin.create_partitions(dict.fromkeys(short, partitions))
            admin.wait_for_topics(short)
    return short


def committed_by(access: KafkaAccess, group: str) -> dict[tuple[str, int], int]:
    """The committed offsets of a group, by topic and partition. Raises BrokerUnavailable."""
    with connect(access) as admin:
        return {at: o for at, o in committed_offsets(admin, group).items() if o >= 0}


def commit_for(access: KafkaAccess, group: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Commit offsets for a group without members. Raises BrokerUnavailable, or FatalError if Kafka
    refuses."""
    wanted = {TopicPartition(*at): OffsetAndMetadata(o, "", -1) for at, o in offsets.items()}
    with connect(access) as admin:
        answers = admin.alter_group_offsets(group, wanted)
    refused = {str(error.__name__) for error in answers.values() if error.errno}
    if refused:
        raise FatalError(
            f"Kafka did not commit offsets for the group {group}: {', '.join(sorted(refused))}. "
            "Check this user's rights, and run the command again."
        )
