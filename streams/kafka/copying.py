"""Copies records from topics into others that have more partitions, each to its key's partition.

Keys, values, headers and timestamps stay, and so does the order of one partition's records. Offsets
are committed once the new topics have acknowledged the copies. So a copy that was interrupted
continues there and repeats some records; readers drop these by their event ids.

If the broker refuses a record because of its content, such as its size, the record is left out,
counted and named. A broker refuses whole batches: their records are sent again one by one, after
those of the next batches.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)

from schemas.errors import BrokerUnavailable, FatalError
from streams.core.partitioning import Partitioner, partitions_of_keys
from streams.kafka import clients
from streams.kafka.access import KafkaAccess
from streams.kafka.growth import committed_by
from streams.kafka.reach import probe

__all__ = ["Copier", "LeftOut", "Refused", "offset_unknown"]

LeftOut = Callable[[str, int, Any], bool]
"""Whether a record (topic, partition, record) is not to be copied."""

_RECORDS: Final = 2_000  # at a time; committed behind them
_WAIT_MS: Final = 500
_COMMIT_SECONDS: Final = 60.0
"""Between two commits when nothing comes: offsets expire some days after their own commit."""
_AHEAD_MS: Final = 3_600_000
"""How far one partition may run ahead of others by record time, at most."""
_BATCH_BYTES: Final = 128 * 1024  # before compression; a broker takes 1 MiB by default
_RECORD_BYTES: Final = 64  # what a record, or a header, takes besides key and value, at most
_COMPRESSION: Final = "zstd"
"""The densest there is, so that a record which fitted only compressed fits again."""
_OF_THE_RECORD: Final = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    InvalidTimestampError,
    UnsupportedForMessageFormatError,
)
"""What a broker answers because of a record, whenever it is sent."""


@dataclass(frozen=True)
class Refused:
    """A record that the broker did not take."""

    topic: str
    partition: int
    offset: int
    """Where it is in the old topic."""
    why: str


@dataclass(frozen=True)
class _Outgoing:
    """A record on its way into partition `to` of its new topic."""

    to: TopicPartition
    record: Any


class Copier:
    """Copies all partitions of the old topics into the new ones. Enter it, call `start`, then
    `copy_some` repeatedly. Raises BrokerUnavailable.

    Args:
        access: the brokers.
        group: the copying group; its committed offsets say how far the copy has come.
        to_topic: old topic -> new topic.
        partitions: old topic -> how many partitions it has.
        known: how many partitions of a topic must have a committed offset; those that were added
            later may begin at the beginning.
        to: chooses the partition of a key in the new topics.
        keyless: old partition of a record without a key -> its new partition.
        left_out: whether a record is not to be copied.
        note: is committed with every offset.
        lateness_ms: how late an event may be and still count.
        seconds: a monotonic clock.
    """

    def __init__(
        self,
        access: KafkaAccess,
        group: str,
        to_topic: Mapping[str, str],
        partitions: Mapping[str, int],
        *,
        known: int,
        to: Partitioner,
        keyless: Callable[[int], int],
        left_out: LeftOut,
        note: str,
        lateness_ms: int,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access, self._group, self._to_topic, self._to = access, group, to_topic, to
        self._known, self._keyless, self._left_out, self._note = known, keyless, left_out, note
        self._places = [
            TopicPartition(topic, p) for topic in to_topic for p in range(partitions[topic])
        ]
        # Half of it, as records of one partition are out of order, too. With 0 they are merged.
        self._ahead_ms = min(_AHEAD_MS, lateness_ms // 2)
        self._seconds = seconds
        self._committed_at = -math.inf
        self._newest = dict.fromkeys(self._places, -math.inf)
        self._waiting: dict[Any, deque[tuple[float, Any]]] = {p: deque() for p in self._places}
        """Records that were read, each with the newest time up to it."""
        self._consumer: Any = None
        self._producer: Any = None
        self.copied = 0
        self.skipped = 0
        """Records that were left out."""
        self.expired = 0
        """Offsets that retention took before they were copied."""
        self.refused = 0
        """Records that the broker did not take."""

    async def __aenter__(self) -> Copier:
        if self._access.security != "plaintext":
            await probe(self._access)
        self._consumer = clients.async_consumer(
            self._access,
            group_id=self._group,
            isolation_level="read_committed",
            auto_offset_reset="none",
        )
        self._producer = clients.async_producer(
            self._access, compression_type=_COMPRESSION, max_batch_size=_BATCH_BYTES
        )
        try:
            with self._errors():
                await self._consumer.start()
                await self._producer.start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        await self._producer.stop()
        await self._consumer.stop()

    async def start(self) -> None:
        """Go to the committed offsets; an added partition that has none, to its beginning.

        Raises FatalError if another one has none.
        """
        committed = await asyncio.to_thread(committed_by, self._access, self._group)
        unknown = [p for p in self._places if p not in committed and p.partition < self._known]
        if unknown:
            raise offset_unknown(self._group, unknown)
        with self._errors():
            first = await self._consumer.beginning_offsets(self._places)
            self._consumer.assign(self._places)
            for place in self._places:
                at = committed[place].offset if place in committed else first[place]
                self._go_on(place, at, first[place])
            await self._commit()

    def _go_on(self, place: Any, at: int, first: int) -> None:
        self.expired += max(0, first - at)
        self._consumer.seek(place, max(first, at))

    async def ends(self) -> dict[Any, int]:
        """Where the old topics end now, by partition."""
        with self._errors():
            found: dict[Any, int] = await self._consumer.end_offsets(self._places)
        return found

    async def left(self, ends: Mapping[Any, int]) -> int:
        """Offsets up to `ends` that were not copied yet."""
        with self._errors():
            return sum([max(0, end - await self._next(at)) for at, end in ends.items()])

    async def copy_some(self) -> list[Refused] | None:
        """Copy what is there, a part of it at most, or wait a moment. Returns the records that were
        refused; None if there was nothing."""
        with self._errors():
            polled = await self._read_some()
            due = await self._due()
            refused = await self._send(self._outgoing(due))
            if due or self._seconds() - self._committed_at >= _COMMIT_SECONDS:
                await self._commit()
        return refused if polled or due else None

    async def _read_some(self) -> bool:
        """Read on where nothing waits to be copied."""
        places = [place for place in self._places if not self._waiting[place]]
        try:
            polled = await self._consumer.getmany(
                *places, timeout_ms=_WAIT_MS, max_records=_RECORDS
            )
        except OffsetOutOfRangeError as error:
            await self._overtaken(error.args[0])
            return True
        for place, records in polled.items():
            for record in records:
                self._newest[place] = max(self._newest[place], record.timestamp)
                self._waiting[place].append((self._newest[place], record))
        return bool(polled)

    async def _due(self) -> list[Any]:
        """The records to copy now, taken from those that wait; in the order of time, but for each
        partition in its own. Those that are far ahead of what another partition has still to bring
        go on waiting: records that come together in a new partition would be late there otherwise.
        """
        behind = [place for place in self._places if not await self._caught_up(place)]
        until = min((self._newest[place] for place in behind), default=math.inf) + self._ahead_ms
        due: list[tuple[float, Any]] = []
        for waiting in self._waiting.values():
            while waiting and waiting[0][0] <= until:
                due.append(waiting.popleft())
        due.sort(key=lambda each: each[0])
        return [record for _, record in due]

    async def _overtaken(self, places: Mapping[Any, int]) -> None:
        """Go on behind what retention took before it was read."""
        first = await self._consumer.beginning_offsets(list(places))
        for place, at in places.items():
            if at != await self._position(place):
                continue  # an answer from before
            if at >= first[place]:
                raise FatalError(
                    f"{place.topic}/{place.partition} has no offset {at}, up to which it was "
                    "copied: the topic was created again. If what it holds is to be copied, run "
                    f"`kafka-consumer-groups --group {self._group} --topic "
                    f"{place.topic}:{place.partition} --reset-offsets --to-earliest --execute`, "
                    "and the command again."
                )
            self._go_on(place, at, first[place])

    def _outgoing(self, records: Sequence[Any]) -> list[_Outgoing]:
        """Those of the records that are to be copied, and where to."""
        kept = [r for r in records if not self._left_out(r.topic, r.partition, r)]
        self.skipped += len(records) - len(kept)
        if not kept:
            return []
        keys = [r.key if r.key is not None else b"" for r in kept]
        to = partitions_of_keys(keys, self._to.name, self._to.partitions)
        return [
            _Outgoing(
                TopicPartition(
                    self._to_topic[r.topic],
                    int(q) if r.key is not None else self._keyless(r.partition),
                ),
                r,
            )
            for r, q in zip(kept, to, strict=True)
        ]

    async def _send(self, outgoing: Sequence[_Outgoing]) -> list[Refused]:
        """Send all, and again alone those of a batch that was refused."""
        refused = []
        sent = [(batch, await self._sent(batch)) for batch in self._batches(outgoing)]
        answers = await asyncio.gather(*(future for _, future in sent), return_exceptions=True)
        for (batch, _), answer in zip(sent, answers, strict=True):
            if isinstance(answer, _OF_THE_RECORD):
                refused += [r for each in batch if (r := await self._send_alone(each))]
            elif isinstance(answer, BaseException):
                raise answer
        self.refused += len(refused)
        self.copied += len(outgoing) - len(refused)
        return refused

    async def _send_alone(self, one: _Outgoing) -> Refused | None:
        try:
            await (await self._sent([one]))
        except _OF_THE_RECORD as error:
            r = one.record
            return Refused(r.topic, r.partition, r.offset, f"{type(error).__name__}")
        return None

    def _batches(self, outgoing: Sequence[_Outgoing]) -> list[list[_Outgoing]]:
        """As batches of one partition each; a large record is alone in one."""
        batches: list[list[_Outgoing]] = []
        open_at: dict[TopicPartition, tuple[int, int]] = {}
        for each in outgoing:
            r = each.record
            nbytes = _RECORD_BYTES + len(r.key or b"") + len(r.value or b"")
            nbytes += sum(_RECORD_BYTES + len(k.encode()) + len(v or b"") for k, v in r.headers)
            at, full = open_at.get(each.to, (-1, _BATCH_BYTES))
            if full + nbytes > _BATCH_BYTES:
                batches.append([])
                at, full = len(batches) - 1, 2 * _RECORD_BYTES  # a batch has a header, too
            batches[at].append(each)
            open_at[each.to] = at, full + nbytes
        return batches

    async def _sent(self, batch: Sequence[_Outgoing]) -> Any:
        """A future of the broker's answer. As a batch, since only there a record may have neither
        key nor value."""
        builder = self._producer.create_batch()
        for each in batch:
            r = each.record
            added = builder.append(
                timestamp=r.timestamp, key=r.key, value=r.value, headers=list(r.headers)
            )
            assert added is not None  # noqa: S101  (_batches has counted generously)
        to = batch[0].to
        return await self._producer.send_batch(builder, to.topic, partition=to.partition)

    async def _commit(self) -> None:
        """All places, also those where nothing came, so that none expires before others."""
        await self._consumer.commit({p: (await self._next(p), self._note) for p in self._places})
        self._committed_at = self._seconds()

    async def _caught_up(self, place: Any) -> bool:
        end = self._consumer.last_stable_offset(place)
        return end is not None and await self._position(place) >= end

    async def _next(self, place: Any) -> int:
        """The offset to copy next."""
        waiting = self._waiting[place]
        return int(waiting[0][1].offset) if waiting else await self._position(place)

    async def _position(self, place: Any) -> int:
        return int(await self._consumer.position(place))

    def _errors(self) -> _Errors:
        return _Errors(self._access)


def offset_unknown(group: str, places: Sequence[tuple[str, int]]) -> FatalError:
    """The error for partitions of which nobody knows how far they were copied."""
    named = ", ".join(f"{topic}/{partition}" for topic, partition in places)
    topics = " ".join(f"--topic {topic}" for topic in dict.fromkeys(topic for topic, _ in places))
    return FatalError(
        f"How far {named} was copied is not known any more: the group {group} has no offset there. "
        "Brokers forget offsets that nobody has committed for offsets.retention.minutes. Say where "
        f"to go on: `kafka-consumer-groups --group {group} {topics} --reset-offsets --to-datetime "
        "TIME --execute`, with a time when all before it was surely copied (what is copied twice "
        "counts once while shards remember it, and is late after that); or --to-latest in its "
        "place, if nothing has come since. Then run the command again."
    )


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
