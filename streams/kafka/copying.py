"""Copies records from topics into others that have more partitions, each to its key's partition.

Keys, values, headers and timestamps stay, and so does the order of one partition's records. Offsets
are committed once the new topics have acknowledged the copies. So a copy that was interrupted
continues there and repeats some records; readers drop these by their event ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final

import numpy as np
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import BrokerUnavailable
from streams.core.partitioning import Partitioner, partitions_of_keys
from streams.kafka import clients
from streams.kafka.access import KafkaAccess

__all__ = ["Copier", "LeftOut"]

LeftOut = Callable[[str, int, Any], bool]
"""Whether a record (topic, partition, record) is not to be copied."""

_RECORDS: Final = 2_000  # at a time; committed behind them
_WAIT_MS: Final = 500
_AHEAD_MS: Final = 3_600_000
"""How far one partition may run ahead of others by record time: less than lateness allows."""


class Copier:
    """Copies all partitions of the old topics into the new ones. Blocks; raises BrokerUnavailable.

    Args:
        access: the brokers.
        group: the copying group; its committed offsets say how far the copy has come.
        to_topic: old topic -> new topic.
        partitions: old topic -> how many partitions it has.
        to: chooses the partition of a key in the new topics.
        keyless: old partition of a record without a key -> its new partition.
        left_out: whether a record is not to be copied.
    """

    def __init__(
        self,
        access: KafkaAccess,
        group: str,
        to_topic: Mapping[str, str],
        partitions: Mapping[str, int],
        to: Partitioner,
        keyless: Callable[[int], int],
        left_out: LeftOut,
    ) -> None:
        self._access, self._to_topic, self._to = access, to_topic, to
        self._keyless, self._left_out = keyless, left_out
        self._places = [
            TopicPartition(topic, p) for topic in to_topic for p in range(partitions[topic])
        ]
        self._consumer = clients.consumer(
            access, group_id=group, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        self._producer = clients.producer(access, linger_ms=20, max_request_size=2_000_000)
        self._newest = dict.fromkeys(self._places, -math.inf)
        self.copied = 0
        self.skipped = 0
        """Records that were left out."""
        self.expired = 0
        """Offsets that retention took before they were copied."""

    def start(self) -> None:
        """Go to the committed offsets; where there is none, to the beginning."""
        with self._errors():
            self._consumer.assign(self._places)
            first = self._consumer.beginning_offsets(self._places)
            for place in self._places:
                committed = self._consumer.committed(place)
                at = first[place] if committed is None else committed
                self.expired += max(0, first[place] - at)
                self._consumer.seek(place, max(first[place], at))

    def ends(self) -> dict[Any, int]:
        """Where the old topics end now, by partition."""
        with self._errors():
            found: dict[Any, int] = self._consumer.end_offsets(self._places)
        return found

    def left(self, ends: Mapping[Any, int]) -> int:
        """Offsets up to `ends` that were not copied yet."""
        with self._errors():
            return sum(max(0, end - self._consumer.position(at)) for at, end in ends.items())

    def copy_some(self) -> int:
        """Copy some of the records there are, or wait a moment; returns how many were copied."""
        with self._errors():
            polled = self._consumer.poll(timeout_ms=_WAIT_MS, max_records=_RECORDS)
            sent = [
                future for place, records in polled.items() for future in self._send(place, records)
            ]
            self._producer.flush()
            for future in sent:
                future.get(timeout=0)
            if polled:
                self._consumer.commit(
                    {
                        place: OffsetAndMetadata(self._consumer.position(place), "", -1)
                        for place in self._places
                    }
                )
            self._hold_back()
        self.copied += len(sent)
        return len(sent)

    def _send(self, place: Any, records: list[Any]) -> list[Any]:
        self._newest[place] = max(r.timestamp for r in records)
        kept = [r for r in records if not self._left_out(place.topic, place.partition, r)]
        self.skipped += len(records) - len(kept)
        keys = [r.key if r.key is not None else b"" for r in kept]
        to = partitions_of_keys(keys, self._to.name, self._to.partitions) if kept else np.empty(0)
        return [
            self._producer.send(
                self._to_topic[place.topic],
                # kafka-python sends no record that has neither
                value=b"" if r.value is None and r.key is None else r.value,
                key=r.key,
                headers=list(r.headers),
                partition=int(q) if r.key is not None else self._keyless(place.partition),
                timestamp_ms=r.timestamp,
            )
            for r, q in zip(kept, to, strict=True)
        ]

    def _hold_back(self) -> None:
        """Pause partitions that are far ahead of others by time: several old partitions may meet in
        a new one, where the records of those behind would be late."""
        behind = [place for place in self._places if not self._caught_up(place)]
        limit = min((self._newest[place] for place in behind), default=math.inf) + _AHEAD_MS
        ahead = [place for place in behind if self._newest[place] > limit]
        self._consumer.resume(*self._places)
        if ahead:
            self._consumer.pause(*ahead)

    def _caught_up(self, place: Any) -> bool:
        mark = self._consumer.highwater(place)
        return mark is not None and self._consumer.position(place) >= mark

    def _errors(self) -> _Errors:
        return _Errors(self._access)

    def __enter__(self) -> Copier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer.close(timeout=5)
        self._consumer.close()


class _Errors:
    """Kafka's errors as ours."""

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KafkaError):
            raise BrokerUnavailable(
                f"Copying records on {self._access} failed: {error!r}. Check that the broker runs "
                "and that this user may read and write the topics, and run the command again: it "
                "continues where it was."
            ) from error
