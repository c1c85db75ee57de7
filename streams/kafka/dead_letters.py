"""Reads the dead-letter topic, and replays letters to the topics they came from.

A record is replayed to its own topic with its own key, into the partition that the key belongs to,
where its user's shard is; a header says where it came from. Records that were in fact used before
are dropped there as duplicates by their event id. A letter whose payload was truncated is not
replayed.

A note in the topic marks a letter as replayed, once the broker has the record. So the next replay
leaves it out. A replay that was interrupted sends a few letters again; they count once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kafka import TopicPartition
from kafka.errors import KafkaError

from schemas.errors import BrokerUnavailable
from schemas.messages import DeadLetter, ReplayedLetter
from streams.core.partitioning import partitions_of_keys
from streams.kafka import clients
from streams.kafka.access import kafka_access
from streams.kafka.end_offsets import EndOffsets
from streams.kafka.reach import explain, require_reachable
from streams.settings import Settings

__all__ = [
    "IsErased",
    "Kind",
    "count_by_reason",
    "kinds",
    "not_replayable",
    "origin",
    "read",
    "replay",
    "topic_records",
]

IsErased = Callable[[DeadLetter], bool]
"""Whether a person named in a letter's record was erased after the record was written."""

_QUIET_SECONDS = 15.0  # without records for so long, before the end, the broker has failed
_CHUNK_LETTERS = 200  # sent before their notes: what an interruption may send twice
_DECODER = msgspec.json.Decoder(DeadLetter)
_NOTE = msgspec.json.Decoder(ReplayedLetter)


@dataclass(frozen=True)
class Kind:
    """The letters of one topic and reason."""

    topic: str
    reason: str
    letters: int
    """Letters that were not replayed."""
    replayed: int
    newest_ms: int
    """When the newest record was written, by its own time."""
    example: str
    """Where the newest one came from, for `tideline dlq show`."""


def origin(letter: DeadLetter) -> str:
    """Where a letter's record came from: topic/partition/offset."""
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def read(
    settings: Settings, is_erased: IsErased, *, again: bool = False, payloads: bool = True
) -> Iterator[DeadLetter]:
    """Every letter that is in the topic now, each once, in no order across partitions.

    A shard that replays a batch after a crash writes its letters again; the repeats are dropped
    here by origin. Letters that were replayed are dropped too, unless `again`. Those for which
    `is_erased` holds are never returned, though they stay in the topic until its retention.
    Without `payloads` these are None, to save memory. Raises BrokerUnavailable.
    """
    letters, replayed = _read(settings, is_erased, payloads)
    return (each for where, each in letters.items() if again or where not in replayed)


def kinds(settings: Settings, is_erased: IsErased) -> list[Kind]:
    """The letters by topic and reason, the most waiting first. Raises BrokerUnavailable."""
    letters, replayed = _read(settings, is_erased, payloads=False)
    groups: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for where, letter in letters.items():
        groups.setdefault((letter.topic, letter.reason), []).append((letter.recorded_at_ms, where))
    found = []
    for (topic, reason), members in groups.items():
        waiting = [m for m in members if m[1] not in replayed]
        newest_ms, example = max(waiting or members)
        sent = len(members) - len(waiting)
        found.append(Kind(topic, reason, len(waiting), sent, newest_ms, example))
    return sorted(found, key=lambda kind: (-kind.letters, kind.topic, kind.reason))


def _read(
    settings: Settings, is_erased: IsErased, payloads: bool
) -> tuple[dict[str, DeadLetter], set[str]]:
    """Letters by origin, and the origins of those that were replayed."""
    letters: dict[str, DeadLetter] = {}
    replayed: set[str] = set()
    for record in topic_records(settings, settings.topic_names.dead_letters):
        value = record.value or b""
        try:
            letter = _DECODER.decode(value)
        except msgspec.MsgspecError:
            with contextlib.suppress(msgspec.MsgspecError):  # neither a letter nor a note
                replayed.add(_NOTE.decode(value).replayed)
            continue
        where = origin(letter)
        if where not in letters and not is_erased(letter):
            letters[where] = letter if payloads else msgspec.structs.replace(letter, payload=None)
    return letters, replayed


def count_by_reason(letters: Iterable[DeadLetter]) -> list[tuple[str, str, int]]:
    """(topic, reason, letters), the most frequent first."""
    counts = Counter((letter.topic, letter.reason) for letter in letters)
    return [(topic, reason, n) for (topic, reason), n in counts.most_common()]


def not_replayable(settings: Settings, letter: DeadLetter) -> str | None:
    """Why a letter can't be replayed, or None if it can."""
    if letter.topic not in (settings.kafka.clickstream_topic, settings.kafka.orders_topic):
        return (
            f"{letter.topic} is no longer an input topic; replay it with the old settings, then "
            "`tideline repartition` copies it"
        )
    if letter.payload is None:
        return "it had no payload"
    if len(letter.payload) != letter.payload_bytes:
        return f"only {len(letter.payload):,} of its {letter.payload_bytes:,} bytes were kept"
    return None


def replay(
    settings: Settings,
    letters: Sequence[DeadLetter],
    progress: Callable[[int], None] = lambda _sent: None,
) -> int:
    """Send the letters that can be replayed; returns how many, all acknowledged by the broker.

    It may be interrupted anywhere and run again: a letter's note follows its record, so at most a
    chunk is sent twice, and its event ids count once. `progress` gets the number of letters done.
    Raises BrokerUnavailable.
    """
    sendable = [letter for letter in letters if not_replayable(settings, letter) is None]
    if not sendable:
        return 0
    access = kafka_access(settings)
    require_reachable(access)
    notes = settings.topic_names.dead_letters
    try:
        producer = clients.producer(access, client_id="tideline-dlq")
        try:
            for start in range(0, len(sendable), _CHUNK_LETTERS):
                chunk = sendable[start : start + _CHUNK_LETTERS]
                sent = [
                    producer.send(
                        letter.topic,
                        value=letter.payload,
                        key=letter.key,
                        partition=partition,
                        headers=[("tideline-replay-of", origin(letter).encode())],
                    )
                    for letter, partition in zip(chunk, _partitions(settings, chunk), strict=True)
                ]
                _acknowledged(sent)
                now_ms = time.time_ns() // 1_000_000
                _acknowledged(
                    producer.send(notes, msgspec.json.encode(ReplayedLetter(origin(each), now_ms)))
                    for each in chunk
                )
                progress(start + len(chunk))
        finally:
            producer.close(timeout=_QUIET_SECONDS)
    except (KafkaError, OSError) as error:
        raise explain(access, error) from error
    return len(sendable)


def _partitions(settings: Settings, letters: Sequence[DeadLetter]) -> list[int]:
    """Where each letter's key belongs; the letter's own partition if it has no key, or if how
    producers choose partitions is not known."""
    partitioner = settings.kafka.partitioner
    if partitioner == "unchecked":
        return [letter.partition for letter in letters]
    keys = [letter.key or b"" for letter in letters]
    found = partitions_of_keys(keys, partitioner, settings.kafka.partitions).tolist()
    return [n if x.key is not None else x.partition for n, x in zip(found, letters, strict=True)]


def _acknowledged(sent: Iterable[Any]) -> None:
    for future in list(sent):
        future.get(timeout=_QUIET_SECONDS)


def topic_records(settings: Settings, topic: str, newest: int | None = None) -> Iterator[Any]:
    """The records of a topic up to its present end, as kafka-python's objects; only so many offsets
    of each partition if `newest` is given. None if there is no such topic.

    Raises BrokerUnavailable, also if the broker stops sending before the end.
    """
    access = kafka_access(settings)
    require_reachable(access)
    try:
        consumer = clients.consumer(access, client_id="tideline-dlq")
        try:
            partitions = [(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
            if not partitions:
                return
            with EndOffsets(access) as reader:
                ends = {TopicPartition(*p): end for p, end in reader.of(partitions).items()}
            consumer.assign(list(ends))
            consumer.seek_to_beginning(*ends)
            if newest is not None:
                for tp, first in consumer.beginning_offsets(list(ends)).items():
                    consumer.seek(tp, max(first, ends[tp] - newest))
            last_progress = time.monotonic()
            while any(consumer.position(tp) < end for tp, end in ends.items()):
                for tp, records in consumer.poll(timeout_ms=500).items():
                    yield from (r for r in records if r.offset < ends[tp])
                    last_progress = time.monotonic()
                if time.monotonic() - last_progress > _QUIET_SECONDS:
                    raise BrokerUnavailable(
                        f"Kafka stopped sending {topic} before its end. Check the broker's log."
                    )
        finally:
            consumer.close()
    except (KafkaError, OSError) as error:
        raise explain(access, error) from error
