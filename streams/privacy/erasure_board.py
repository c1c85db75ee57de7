"""The topic of erasures: requests to erase a person, and the shards' reports.

Compacted, one partition. `request/<digest>` is the newest request for a person, and
`done/<digest>/<shard>` a shard's report. No record names a person; the digests are salted.
A worker reads the topic before its shards take their first step, and follows it while they run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable

import msgspec

from schemas.errors import RetryableError, StateError
from schemas.messages import DeadLetter, Erasure, ErasureRequest
from streams.core import erasure
from streams.core.plan import Clock
from streams.core.state.shard_state import Meta
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog, KeyValue, Log
from streams.settings import Settings

__all__ = ["POLL_SECONDS", "ErasureBoard", "board_of", "letters_of_erased", "read_board"]

_log = logging.getLogger(__name__)
_decoder = msgspec.msgpack.Decoder(ErasureRequest | Erasure)

POLL_SECONDS = 1.0  # a request is noticed so late at most


class ErasureBoard:
    """All requests and reports, as of the last `refresh`."""

    def __init__(self, log: Log, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._next = 0
        self._reading = asyncio.Lock()
        self.requests: dict[str, ErasureRequest] = {}
        """By digest."""
        self.done: dict[tuple[str, int], Erasure] = {}
        """By digest and shard."""

    async def refresh(self) -> None:
        """Read what is new. Raises BrokerUnavailable, or StateError for a record it can't read."""
        async with self._reading:
            first, end = await self._log.ends(self._topic, 0)
            if end < self._next:  # the topic was made again; its old records are in the shards
                self._next = 0
            start = max(first, self._next)
            records = await self._log.read(self._topic, 0, start, end)
            for offset, value in zip(records.offsets, records.values, strict=True):
                if value is not None:
                    self._note(value, int(offset))
            self._next = end

    def _note(self, value: bytes, offset: int) -> None:
        try:
            entry = _decoder.decode(value)
        except msgspec.DecodeError as exc:
            # Without it an erased person could come back.
            raise StateError(
                f"{self._topic}/0 offset {offset} is not a record of an erasure: {exc}. Check "
                "whether another version of Tideline wrote it."
            ) from exc
        if isinstance(entry, ErasureRequest):
            self.requests[entry.digest] = entry
        else:
            self.done[entry.digest, entry.shard] = entry

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except RetryableError as exc:
                _log.warning("erasures: %s; trying again", exc)
            except StateError as exc:
                _log.error("erasures: %s", exc)

    def due(self, shard: int, meta: Meta, clock: Clock, wall_ms: int) -> tuple[Erasure, ...]:
        """The people that a shard with this state has to erase; nearly always none."""
        if not self.requests:
            return ()
        mine = {e.digest: e.erasure_id for e in meta.erased}
        open_ = [r for r in self.requests.values() if mine.get(r.digest) != r.erasure_id]
        if not open_:
            return ()
        done = [e for (_, number), e in self.done.items() if number == shard]
        return erasure.due(meta, open_, done, clock=clock, wall_ms=wall_ms)

    def waiting(self, request: ErasureRequest) -> list[int]:
        """The shards that have not reported on a request."""
        return [shard for shard in range(len(request.ends)) if self._report(request, shard) is None]

    def reports(self, request: ErasureRequest) -> list[Erasure]:
        """What the shards have reported on a request."""
        found = (self._report(request, shard) for shard in range(len(request.ends)))
        return [report for report in found if report is not None]

    def _report(self, request: ErasureRequest, shard: int) -> Erasure | None:
        report = self.done.get((request.digest, shard))
        return report if report and report.erasure_id == request.erasure_id else None

    def unreported(self, erased: Iterable[Erasure]) -> list[Erasure]:
        """What a shard's state has forgotten and has not been reported yet, or with offsets of
        other input topics than those it reads now."""
        return [
            e
            for e in erased
            if (known := self.done.get((e.digest, e.shard))) is None
            or (known.erasure_id, known.stop) != (e.erasure_id, e.stop)
        ]

    async def report(self, erased: Iterable[Erasure]) -> None:
        """Report what a shard's checkpoint has forgotten, unless that was reported before."""
        fresh = self.unreported(erased)
        if not fresh:
            return
        records: list[KeyValue] = [
            (f"done/{e.digest}/{e.shard}".encode(), msgspec.msgpack.encode(e)) for e in fresh
        ]
        await self._log.append(self._topic, 0, records)
        self.done |= {(e.digest, e.shard): e for e in fresh}

    async def ask(self, request: ErasureRequest) -> None:
        """Write a request; the shards see it when they read the topic next."""
        key = f"request/{request.digest}".encode()
        await self._log.append(self._topic, 0, [(key, msgspec.msgpack.encode(request))])
        self.requests[request.digest] = request

    def match(self, user: str) -> list[Erasure]:
        """What shards have reported of a user, if anything."""
        digests = self._digests(user)
        return [e for (digest, _), e in self.done.items() if digest in digests]

    def covers(
        self, user: str, source: int, at: tuple[int, int], recorded_at_ms: int, partitions: int
    ) -> bool:
        """Whether a record of a user is from before their erasure. It is at a partition and offset,
        `at`, of an input topic that has so many partitions.

        Offsets in a request are those of the topics of its time. Where these had another number of
        partitions, the record's time decides alone.
        """
        shard, offset = at
        for each in self._digests(user):
            request, report = self.requests.get(each), self.done.get((each, shard))
            if request is not None and shard < len(request.ends) == partitions:
                stop = request.ends[shard][source]
                if offset < max(stop, report.stop[source] if report is not None else 0):
                    return True
            if report is not None and recorded_at_ms < report.cutoff_ms:
                return True
        return False

    def forgotten_until(self, user: str) -> int:
        """Up to when (exclusive; ms) a user's history must not be used; 0: no erasure is known."""
        asked = [r for d in self._digests(user) if (r := self.requests.get(d))]
        done = [e.cutoff_ms for r in asked for e in self.reports(r)]
        return max(done or [r.requested_at_ms for r in asked], default=0)

    def _digests(self, user: str) -> set[str]:
        return {erasure.digest(salt, user) for salt in self.salts}

    @property
    def salts(self) -> list[bytes]:
        """The salts in use, ascending. One, or a few where first requests came at the same time."""
        return sorted({r.salt for r in self.requests.values()})


@contextlib.asynccontextmanager
async def board_of(settings: Settings) -> AsyncIterator[ErasureBoard]:
    """The topic of erasures, read to its end. Raises BrokerUnavailable."""
    log = KafkaLog(kafka_access(settings))
    await log.start()
    try:
        board = ErasureBoard(log, settings.topic_names.erasures)
        await board.refresh()
        yield board
    finally:
        await log.stop()


async def read_board(settings: Settings) -> ErasureBoard:
    """What the topic of erasures holds now. Raises BrokerUnavailable."""
    async with board_of(settings) as board:
        return board


def letters_of_erased(settings: Settings) -> Callable[[DeadLetter], bool]:
    """Whether a person named in a dead letter's record was erased after the record was written, as
    of now. Raises BrokerUnavailable."""
    board = asyncio.run(read_board(settings))
    sources = (settings.topic_names.clickstream, settings.topic_names.orders)
    n = settings.kafka.partitions

    def is_erased(letter: DeadLetter) -> bool:
        if not board.requests:
            return False
        ours = letter.topic in sources
        source, partitions = (sources.index(letter.topic), n) if ours else (0, 0)
        at = letter.partition, letter.offset
        return any(
            board.covers(user, source, at, letter.recorded_at_ms, partitions)
            for user in erasure.named_in(letter.key, letter.payload)
        )

    return is_erased
