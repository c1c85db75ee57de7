"""Reads the dead-letter topic, and sends letters back to where they came from.

A record is replayed to its own topic *and partition* with its own key, so that it reaches the shard
that has its user; a header says where it came from. Records that were in fact used before are
dropped there as duplicates by their event id. A letter whose payload was truncated is not replayed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from schemas.messages import DeadLetter
from streams.core.erasure import named_in
from streams.erasures import ErasureBoard, read_board
from streams.errors import BrokerUnavailable
from streams.kafka_admin import require_reachable, unavailable
from streams.kafka_offsets import EndOffsets
from streams.settings import Settings
from streams.targets import kafka_access

__all__ = ["count_by_reason", "not_replayable", "read", "replay", "topic_records"]

_QUIET_SECONDS = 15.0  # a broker that sends nothing for so long, short of the end, is in trouble
_DECODER = msgspec.json.Decoder(DeadLetter)


def read(settings: Settings) -> Iterator[DeadLetter]:
    """Every letter that is in the topic now, each once, in no order across partitions.

    A shard that replays a batch after a crash writes its letters again; the repeats are dropped
    here by origin. Letters of people who were erased since are left out: they stay in the topic
    until its retention, but are nobody's business. Raises BrokerUnavailable.
    """
    board = asyncio.run(read_board(settings))
    sources = (settings.topic_names.clickstream, settings.topic_names.orders)
    seen: set[tuple[str, int, int]] = set()
    for record in topic_records(settings, settings.topic_names.dead_letters):
        try:
            letter = _DECODER.decode(record.value or b"")
        except msgspec.MsgspecError:
            continue  # not ours: somebody else wrote to this topic
        origin = (letter.topic, letter.partition, letter.offset)
        if origin not in seen:
            seen.add(origin)
            if not _erased(board, sources, letter):
                yield letter


def count_by_reason(letters: Iterable[DeadLetter]) -> list[tuple[str, str, int]]:
    """(topic, reason, letters), the most frequent first."""
    counts = Counter((letter.topic, letter.reason) for letter in letters)
    return [(topic, reason, n) for (topic, reason), n in counts.most_common()]


def not_replayable(letter: DeadLetter) -> str | None:
    """Why a letter can't be replayed, or None if it can."""
    if letter.payload is None:
        return "it had no payload"
    if len(letter.payload) != letter.payload_bytes:
        return f"only {len(letter.payload):,} of its {letter.payload_bytes:,} bytes were kept"
    return None


def replay(settings: Settings, letters: Sequence[DeadLetter]) -> int:
    """Send the letters that can be replayed; returns how many, all acknowledged by the broker.

    Raises BrokerUnavailable; what was sent before that stays sent, and sending it again is safe.
    """
    sendable = [letter for letter in letters if not_replayable(letter) is None]
    if not sendable:
        return 0
    access = kafka_access(settings)
    require_reachable(access)
    try:
        producer = KafkaProducer(
            bootstrap_servers=list(access.brokers),
            client_id="tideline-dlq",
            acks="all",
            **access.client_options(),
        )
        try:
            sent = [
                producer.send(
                    letter.topic,
                    value=letter.payload,
                    key=letter.key,
                    partition=letter.partition,
                    headers=[("tideline-replay-of", _origin(letter).encode())],
                )
                for letter in sendable
            ]
            for future in sent:
                future.get(timeout=_QUIET_SECONDS)
        finally:
            producer.close(timeout=_QUIET_SECONDS)
    except (KafkaError, OSError) as error:
        raise unavailable(access, error) from error
    return len(sendable)


def _erased(board: ErasureBoard, sources: tuple[str, str], letter: DeadLetter) -> bool:
    """Whether a person whom the record names was erased after it was written."""
    if not board.requests:
        return False
    source = sources.index(letter.topic) if letter.topic in sources else 0
    at, shard = (letter.offset, letter.recorded_at_ms), letter.partition
    return any(
        board.covers(user, source, shard, *at) for user in named_in(letter.key, letter.payload)
    )


def _origin(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def topic_records(settings: Settings, topic: str) -> Iterator[Any]:
    """The records of a topic up to its end as of now, as kafka-python has them.

    Raises BrokerUnavailable.
    """
    access = kafka_access(settings)
    require_reachable(access)
    try:
        consumer = KafkaConsumer(
            bootstrap_servers=list(access.brokers),
            client_id="tideline-dlq",
            enable_auto_commit=False,
            **access.client_options(),
        )
        try:
            partitions = [(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
            with EndOffsets(access) as reader:
                ends = {TopicPartition(*p): end for p, end in reader.of(partitions).items()}
            consumer.assign(list(ends))
            consumer.seek_to_beginning(*ends)
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
        raise unavailable(access, error) from error
