"""Starts the state of all shards over, in steps. Each may be interrupted: a second run finishes it.

    1. The topics of the state, checkpoints and journal, are deleted.
    2. In ClickHouse the current lives are ended, so that they leave every view.
    3. The committed offsets of the workers' group are set to the beginning of the input topics.
       Those of a `tideline repartition` from here to more partitions are deleted: they say that the
       shards were split, which those of the new life are not.
    4. The topics are created again, empty. No shard can start before, as it needs them.

The order matters: a life is ended only when no worker can recover it any more. Views don't show an
ended life, so the results of such a worker would never be seen. No worker may run meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import (
    KafkaError,
    NoError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
    for_code,
)
from kafka.structs import OffsetAndMetadata

from schemas.errors import FatalError
from schemas.topics import Topic
from streams.clickhouse.client import ClickHouseTarget, clickhouse_target, connect
from streams.clickhouse.errors import sink_error
from streams.clickhouse.migrations import pending
from streams.kafka.access import kafka_access
from streams.kafka.admin import connect as connect_admin
from streams.kafka.admin import partition_counts
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.growth import committed_by, copying_group, forget_group, notes_of_growth
from streams.kafka.topics import create_missing, wanted
from streams.settings import Settings

__all__ = ["STEPS", "Contents", "TopicContents", "contents", "end_lives", "reset"]

STEPS: Final = (
    "deleting topics", "ending lives", "setting committed offsets", "creating topics"
)  # fmt: skip
_DELETED_SECONDS: Final = 60.0  # Kafka deletes within one; a cluster without a controller does not
_POLL_SECONDS: Final = 0.2

# The views that show customers as they are now, or judge the current life.
_SHOWN: Final = (
    ("customers", "scores_live", "count()"),
    ("open alerts", "churn_alerts_live", "count()"),
    ("segment moves", "segment_flow", "sum(moves)"),
    ("matured predictions", "model_quality", "sum(n)"),
    ("batches", "ledger", "sum(batches)"),
)
# A life may have other rows but no batch: a worker was killed between the two inserts.
_END_LIVES: Final = """
INSERT INTO ended_lives (shard, life, ended_at)
SELECT shard, life, now64(3)
FROM
(
    SELECT shard, life FROM lives
    UNION DISTINCT
    SELECT shard, toUInt32(bitShiftRight(seq, 32)) AS life FROM batches
    UNION DISTINCT
    SELECT shard, toUInt32(bitShiftRight(seq, 32)) AS life FROM users_now
    UNION DISTINCT
    SELECT shard, life FROM alerts
    UNION DISTINCT
    SELECT shard, life FROM alert_budget
    UNION DISTINCT
    SELECT shard, life FROM segment_changes
    UNION DISTINCT
    SELECT shard, life FROM audience_changes
    UNION DISTINCT
    SELECT shard, life FROM campaign_sums
    UNION DISTINCT
    SELECT shard, life FROM segment_totals
    UNION DISTINCT
    SELECT shard, life FROM segment_moves
    UNION DISTINCT
    SELECT shard, life FROM definitions_taken
    UNION DISTINCT
    SELECT shard, toUInt32(bitShiftRight(ordinal, 32)) AS life FROM matured_predictions
    UNION DISTINCT
    SELECT shard, toUInt32(bitShiftRight(ordinal, 32)) AS life FROM examples
)
WHERE (shard, life) NOT IN (SELECT shard, life FROM past_lives)
"""


@dataclass(frozen=True)
class TopicContents:
    """A topic of the state."""

    topic: str
    records: int
    """Offsets from the first to the end; compaction may have removed some of them."""
    stored_bytes: int | None
    """On the disks of one replica of each partition; None: the broker does not say."""


@dataclass(frozen=True)
class Contents:
    """What a reset takes away."""

    topics: tuple[TopicContents, ...]
    shown: tuple[tuple[str, str, int], ...]
    """What goes, the view that shows it, and how many."""
    before_growth: tuple[str, ...] = ()
    """The topics that `tideline repartition` moved on from to the input topics of now. What shards
    had read there is in no topic that the new life begins with."""


def contents(settings: Settings) -> Contents:
    """What there is now. Raises BrokerUnavailable, SinkUnavailable, SinkRefused, and FatalError if
    the tables are not up to date."""
    target = clickhouse_target(settings)
    waiting = pending(target)
    if waiting:
        raise FatalError(
            f"The tables in {target} are not up to date ({', '.join(map(str, waiting))}). Run "
            "`tideline migrate`."
        )
    with connect_admin(kafka_access(settings)) as admin:
        topics = tuple(_contents_of(settings, admin, _state_topics(settings)))
    return Contents(topics, tuple(_shown(target)), _grown_from(settings))


def reset(settings: Settings, on_step: Callable[[str], object] = lambda step: None) -> bool:
    """Steps 1 to 4. `on_step` gets each of `STEPS` before it is taken.

    False: the broker still counts members in the group, so the committed offsets are the old ones
    until each shard's first checkpoint. A shard without a state ignores them.
    Raises BrokerUnavailable, SinkUnavailable, SinkRefused, or FatalError if Kafka refuses: run it
    again.
    """
    names = [topic.name for topic in _state_topics(settings)]
    with connect_admin(kafka_access(settings)) as admin:
        on_step(STEPS[0])
        _delete(admin, names)
        on_step(STEPS[1])
        end_lives(clickhouse_target(settings))
        on_step(STEPS[2])
        committed = _commit_beginnings(settings, admin)
    group = copying_group(settings.kafka.app_id, settings.kafka.partitions)
    if _has_copied(settings, group):
        forget_group(kafka_access(settings), group)
    on_step(STEPS[3])
    create_missing(settings)
    return committed


def _state_topics(settings: Settings) -> list[Topic]:
    return [topic for topic in wanted(settings) if topic.is_state]


def _grown_from(settings: Settings) -> tuple[str, ...]:
    """By what `tideline repartition` has committed; brokers forget that some days after it ended.
    What it needs to go on copying stays."""
    kafka = settings.kafka
    inputs = (kafka.clickstream_topic, kafka.orders_topic)
    growths = notes_of_growth(kafka_access(settings), kafka.app_id, kafka.partitions)
    into_ours = {
        topic
        for notes in growths.values()
        for (topic, _), note in notes.items()
        if (note.clickstream, note.orders) == inputs
    }
    return tuple(sorted(into_ours.difference(inputs)))


def _has_copied(settings: Settings, group: str) -> bool:
    """Whether a `tideline repartition` has committed something for this group."""
    try:
        return bool(committed_by(kafka_access(settings), group))
    except FatalError:  # who may not see the group did not repartition, either
        return False


def _contents_of(settings: Settings, admin: Any, topics: Sequence[Topic]) -> list[TopicContents]:
    counts = partition_counts(admin, [topic.name for topic in topics])
    sizes = _sizes(admin, list(counts))
    found = []
    with EndOffsets(kafka_access(settings)) as reader:
        for topic in topics:
            places = [(topic.name, number) for number in range(counts.get(topic.name, 0))]
            first, end = reader.beginnings_of(places), reader.of(places)
            records = sum(end[place] - first[place] for place in places)
            found.append(TopicContents(topic.name, records, sizes.get(topic.name)))
    return found


def _sizes(admin: Any, topics: Sequence[str]) -> dict[str, int]:
    """Bytes by topic, of the largest replica of each partition; {} if the broker does not say."""
    if not topics:
        return {}
    try:
        brokers = admin.describe_log_dirs(list(topics))
        largest: dict[tuple[str, int], int] = {}
        for broker in brokers:
            for directory in broker["log_dirs"]:
                for topic in directory["topics"]:
                    for each in topic["partitions"]:
                        place = (topic["name"], each["partition_index"])
                        largest[place] = max(largest.get(place, 0), each["partition_size"])
    except (KafkaError, ValueError, OSError, KeyError, TypeError):
        return {}  # Tansu does not know the request; a user may not have the right to it
    return {t: sum(size for (name, _), size in largest.items() if name == t) for t in topics}


def _shown(target: ClickHouseTarget) -> list[tuple[str, str, int]]:
    client = connect(target)
    try:
        return [
            (what, view, int(client.execute(f"SELECT {count} FROM {view}")[0][0]))  # noqa: S608
            for what, view, count in _SHOWN
        ]
    except Exception as error:
        raise sink_error(error, "counting what is shown", target) from error
    finally:
        client.disconnect()


def _delete(admin: Any, names: Sequence[str]) -> None:
    """Delete topics, and wait until they are gone."""
    answer = admin.delete_topics(list(names), raise_errors=False)
    for topic in answer["topics"]:
        error = for_code(topic["error_code"])
        if error not in (NoError, UnknownTopicOrPartitionError):
            raise FatalError(
                f"Kafka refused to delete topic {topic['name']}: {error.__name__}: "
                f"{topic.get('error_message') or 'no reason given'}. Check this user's rights, and "
                "delete.topic.enable of the brokers, then run `tideline reset` again."
            )
    deadline = time.monotonic() + _DELETED_SECONDS
    while partition_counts(admin, names):
        if time.monotonic() >= deadline:
            raise FatalError(
                f"Kafka has not deleted {' and '.join(names)} within {_DELETED_SECONDS:.0f} s. "
                "Check its controller, then run `tideline reset` again."
            )
        time.sleep(_POLL_SECONDS)


def end_lives(target: ClickHouseTarget) -> None:
    """End the current lives, so that they leave every view. Raises SinkUnavailable, SinkRefused."""
    client = connect(target)
    try:
        client.execute(_END_LIVES)
    except Exception as error:
        raise sink_error(error, "ending the shards' lives", target) from error
    finally:
        client.disconnect()


def _commit_beginnings(settings: Settings, admin: Any) -> bool:
    """Set the committed offsets to the beginning of the inputs, so that consumer lag is right. A
    shard without a state begins there whatever is committed.

    False if the group has members, as it seems to have for ever on the local broker.
    """
    names = settings.topic_names
    counts = partition_counts(admin, [names.clickstream, names.orders])
    places = [(topic, number) for topic, count in counts.items() for number in range(count)]
    if not places:
        return True  # no inputs yet, so nothing is committed
    with EndOffsets(kafka_access(settings)) as reader:
        first = reader.beginnings_of(places)
    group = settings.kafka.app_id
    refused = {
        error
        for error in admin.alter_group_offsets(
            group,
            {
                TopicPartition(*at): OffsetAndMetadata(offset, "", -1)
                for at, offset in first.items()
            },
        ).values()
        if error is not NoError
    }
    if UnknownMemberIdError in refused:
        return False
    if refused:
        raise FatalError(
            f"Kafka refused to set the offsets of group {group}: "
            f"{', '.join(sorted(error.__name__ for error in refused))}. Check this user's rights, "
            "and run `tideline reset` again."
        )
    return True
