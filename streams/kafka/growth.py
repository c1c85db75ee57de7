"""Topics for more partitions: new input topics like the old ones, and more partitions for our own.

Input topics can't grow in place: producers would send a customer's new records to another partition
while older ones wait in the old partition. Our own topics can, as Tideline writes to partitions by
number.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    GroupAuthorizationFailedError,
    NotCoordinatorError,
    TopicAlreadyExistsError,
    for_code,
)
from kafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import FatalError
from streams.kafka.access import KafkaAccess
from streams.kafka.admin import connect, partition_counts

__all__ = [
    "Committed",
    "Note",
    "add_partitions",
    "begun_at",
    "commit_for",
    "committed_by",
    "copying_group",
    "counts_of",
    "create_like",
    "forget_group",
    "notes_of_growth",
    "require_grown",
]

_SET_FOR_TOPIC: Final = "DYNAMIC_TOPIC_CONFIG"  # in place of the broker's default
_NO_COORDINATOR: Final = (
    CoordinatorNotAvailableError, CoordinatorLoadInProgressError, NotCoordinatorError
)  # fmt: skip
_WAIT_SECONDS: Final = 30.0  # for what a cluster does within a second
_POLL_SECONDS: Final = 0.2


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
    """Grow each topic to `partitions`; returns the names of the topics that had fewer. A topic that
    has more keeps them: Kafka removes no partitions.

    Raises BrokerUnavailable, or FatalError if a topic is missing.
    """
    with connect(access) as admin:
        counts = partition_counts(admin, names)
        missing = [name for name in names if name not in counts]
        if missing:
            raise FatalError(
                f"These topics do not exist: {', '.join(missing)}. Check TIDELINE_KAFKA_APP_ID; if "
                "it is right, run `tideline topics --create`."
            )
        short = [name for name in names if counts[name] < partitions]
        if short:
            admin.create_partitions(dict.fromkeys(short, partitions))
            _wait_for_partitions(admin, short, partitions)
    return short


def _wait_for_partitions(admin: Any, names: Sequence[str], partitions: int) -> None:
    """Brokers hear of them one after the other."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while min(partition_counts(admin, names).values(), default=0) < partitions:
        if time.monotonic() >= deadline:
            raise FatalError(
                f"{' and '.join(names)} did not get {partitions} partitions within "
                f"{_WAIT_SECONDS:.0f} s. Check Kafka's controller, and run the command again."
            )
        time.sleep(_POLL_SECONDS)


def copying_group(app_id: str, partitions: int) -> str:
    """The consumer group that copies when an application grows from so many partitions. What it has
    committed for the old topics says how far it came, with a `Note` each."""
    return f"{app_id}-repartition-{partitions}"


@dataclass(frozen=True)
class Note:
    """What is committed with the offset of an old topic. They expire together."""

    clickstream: str
    orders: str
    """The new topics."""
    done: bool
    """Every shard was split; else this one is or was about to be."""

    def __str__(self) -> str:
        return f"{'split' if self.done else 'splitting'} into {self.clickstream} {self.orders}"

    @staticmethod
    def of(text: str) -> Note | None:
        """None: there is none, as the offset was set by hand."""
        match text.split(" "):
            case ["split" | "splitting" as state, "into", clickstream, orders]:
                return Note(clickstream, orders, state == "split")
        return None


@dataclass(frozen=True)
class Committed:
    """What a group has committed for a partition."""

    offset: int
    note: str
    """What was committed with it; '' if it was set by hand."""


def committed_by(access: KafkaAccess, group: str) -> dict[tuple[str, int], Committed]:
    """What a group has committed, by topic and partition. Raises BrokerUnavailable, or FatalError
    if this user may not see it."""
    with connect(access) as admin:
        try:
            return _committed(admin, group)
        except GroupAuthorizationFailedError:
            raise FatalError(
                f"This user may not use the group {group}. Allow it to read the group, and run the "
                "command again."
            ) from None


def _committed(admin: Any, group: str) -> dict[tuple[str, int], Committed]:
    found = _once_there(lambda: admin.list_group_offsets(group)[group])
    return {
        (at.topic, at.partition): Committed(each.offset, each.metadata or "")
        for at, each in found.items()
        if each.offset >= 0
    }


def _once_there(ask: Callable[[], Any]) -> Any:
    """The answer of a group's coordinator. A cluster makes its first one when somebody asks."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return ask()
        except _NO_COORDINATOR:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)


def commit_for(
    access: KafkaAccess, group: str, offsets: Mapping[tuple[str, int], int], note: str
) -> None:
    """Commit offsets for a group without members, all at once, and a note of up to 4,096 bytes with
    each. Raises BrokerUnavailable, or FatalError if Kafka refuses."""
    wanted = {TopicPartition(*at): OffsetAndMetadata(o, note, -1) for at, o in offsets.items()}

    def commit() -> dict[Any, Any]:
        answers: dict[Any, Any] = admin.alter_group_offsets(group, wanted)
        for error in set(answers.values()) & set(_NO_COORDINATOR):
            raise error
        return answers

    with connect(access) as admin:
        answers = _once_there(commit)
    refused = {str(error.__name__) for error in answers.values() if error.errno}
    if refused:
        raise FatalError(
            f"Kafka did not commit offsets for the group {group}: {', '.join(sorted(refused))}. "
            "Check this user's rights, and run the command again."
        )


def begun_at(clickstream: str) -> tuple[str, int]:
    """Where the group that copies into this topic commits a note before it splits any shard."""
    return clickstream, 0


def notes_of_growth(
    access: KafkaAccess, app_id: str, partitions: int
) -> dict[int, dict[tuple[str, int], Note]]:
    """The notes of growths to so many partitions: from how many -> topic and partition -> note.
    Brokers forget them some days after the growth ended. Raises BrokerUnavailable."""
    found: dict[int, dict[tuple[str, int], Note]] = {}
    with connect(access) as admin:
        for fewer in (n for n in range(1, partitions // 2 + 1) if partitions % n == 0):
            # Who may not see the group did not repartition, either.
            with contextlib.suppress(GroupAuthorizationFailedError):
                committed = _committed(admin, copying_group(app_id, fewer))
                notes = {at: Note.of(each.note) for at, each in committed.items()}
                found[fewer] = {at: note for at, note in notes.items() if note is not None}
    return found


def require_grown(access: KafkaAccess, app_id: str, partitions: int, clickstream: str) -> None:
    """Return unless a growth to so many partitions of this topic has begun and not ended: a worker
    would begin shards empty that are still to be split from others.

    Raises FatalError, or BrokerUnavailable.
    """
    for fewer, notes in notes_of_growth(access, app_id, partitions).items():
        note = notes.get(begun_at(clickstream))
        if note is not None and not note.done:
            raise FatalError(
                f"`tideline repartition` from {fewer} to {partitions} partitions has not split all "
                f"shards into those of {note.clickstream} and {note.orders}. Run it again, with "
                f"the settings of {fewer} partitions, and start the workers after it."
            )


def forget_group(access: KafkaAccess, group: str) -> None:
    """Delete what a group has committed; nobody may be in it. Raises BrokerUnavailable, or
    FatalError if it is refused."""
    with connect(access) as admin:
        answer = admin.delete_groups([group])[group]
    if answer not in ("OK", "GroupIdNotFoundError"):
        raise FatalError(
            f"Kafka did not delete the group {group}: {answer}. Check this user's rights, and run "
            "the command again."
        )
