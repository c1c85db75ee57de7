"""Moves an application from n partitions to a multiple m of n: `tideline repartition`.

    1. New input topics are created with m partitions.
    2. The command waits until no worker runs. From here on the shards stand still. Tideline's own
       topics of shards grow to m; that does no harm if the command ends here.
    3. Each shard is split (`streams.shard.splitting` has the steps). The offsets up to which it has
       read the old topics are committed for the copying group, with a note that names the new ones.
    4. When all shards are split, the notes are committed again and say so.
    5. Records that the shards have not read yet are copied from the old topics into the new ones.
       Workers continue there; records that still arrive in the old topics are copied, too.

If the command is interrupted anywhere, it is run again. A record that is copied twice has the same
event id, which every shard remembers longer than an event may be late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from schemas.errors import FatalError, SettingsError
from streams.core.partitioning import Partitioner
from streams.kafka.access import kafka_access
from streams.kafka.copying import Copier, offset_unknown
from streams.kafka.growth import (
    Committed,
    Note,
    add_partitions,
    begun_at,
    commit_for,
    committed_by,
    copying_group,
    counts_of,
    create_like,
)
from streams.kafka.topics import wanted
from streams.offline import offline_services, wait_until_workers_stopped
from streams.privacy.erasure_board import ErasureBoard, read_board
from streams.settings import Settings, override
from streams.shard.services import Services
from streams.shard.splitting import split_shard

__all__ = ["Move", "Moved"]

_DAY_MS: Final = 86_400_000


@dataclass(frozen=True)
class Moved:
    """How one shard was split."""

    shard: int
    into: tuple[int, ...]
    """The shards that take its place."""
    users: int
    seconds: float
    earlier: bool = False
    """An earlier run of the command has split it."""


@dataclass
class Move:
    """A move of one application to `partitions` partitions of other input topics.

    `settings` are the old ones. Raises SettingsError if the move is not possible with them.
    """

    settings: Settings
    partitions: int
    clickstream: str
    orders: str
    moved: list[Moved] = field(default_factory=list)

    def __post_init__(self) -> None:
        kafka = self.settings.kafka
        old, new = (kafka.clickstream_topic, kafka.orders_topic), (self.clickstream, self.orders)
        problems = []
        if kafka.partitioner == "unchecked":
            problems.append(
                "TIDELINE_KAFKA_PARTITIONER is unchecked, so a customer's partition is not known. "
                "Set it to the producers' partitioner."
            )
        if self.partitions % kafka.partitions or self.partitions <= kafka.partitions:
            n = kafka.partitions
            problems.append(
                f"--partitions {self.partitions} is not a multiple of the present {n}. Choose "
                f"{2 * n}, {3 * n} and so on: then each shard is split, and no two are mixed."
            )
        if len({*old, *new}) < len(old) + len(new):
            problems.append(
                f"The new topics need two names, other than {old[0]} and {old[1]}: producers are "
                "moved one by one, so old and new topics exist side by side."
            )
        if problems:
            raise SettingsError("\n".join(problems))
        self.new = override(
            self.settings,
            kafka_partitions=self.partitions,
            kafka_clickstream_topic=self.clickstream,
            kafka_orders_topic=self.orders,
        )
        self._access = kafka_access(self.settings)
        self._old, self._new = old, new

    @property
    def group(self) -> str:
        """The copying group: its committed offsets say how far the copy has come."""
        return copying_group(self.settings.kafka.app_id, self.settings.kafka.partitions)

    @property
    def changes(self) -> dict[str, str]:
        """The settings that workers need from now on."""
        return {
            "TIDELINE_KAFKA_PARTITIONS": str(self.partitions),
            "TIDELINE_KAFKA_CLICKSTREAM_TOPIC": self.clickstream,
            "TIDELINE_KAFKA_ORDERS_TOPIC": self.orders,
        }

    def prepare(self) -> list[str]:
        """Step 1; returns the topics that were created. Raises BrokerUnavailable, or FatalError if
        a topic is not as it must be, or an earlier run split the shards into other ones."""
        missing = set(self._old) - counts_of(self._access, self._old).keys()
        if missing:
            raise FatalError(
                f"These input topics do not exist: {', '.join(sorted(missing))}. Check "
                "TIDELINE_KAFKA_CLICKSTREAM_TOPIC and TIDELINE_KAFKA_ORDERS_TOPIC."
            )
        for found in self._committed().values():
            note = Note.of(found.note)
            if note is not None and note.done:
                self._require_same(note)
        return create_like(
            self._access, dict(zip(self._new, self._old, strict=True)), self.partitions
        )

    def is_split(self) -> bool:
        """Whether step 4 was reached. Raises BrokerUnavailable."""
        done, found = str(self._note(done=True)), self._committed()
        return all(at in found and found[at].note == done for at in self._places)

    @property
    def _places(self) -> list[tuple[str, int]]:
        """Partitions of the old topics that a shard reads."""
        return [(topic, p) for topic in self._old for p in range(self.settings.kafka.partitions)]

    @property
    def _begun(self) -> tuple[str, int]:
        """Carries the note for `require_grown`; its offset says nothing."""
        return begun_at(self.clickstream)

    def _note(self, *, done: bool) -> Note:
        return Note(self.clickstream, self.orders, done)

    def _committed(self) -> dict[tuple[str, int], Committed]:
        return committed_by(self._access, self.group)

    def _require_same(self, note: Note) -> None:
        if (note.clickstream, note.orders) != self._new:
            raise FatalError(
                f"An earlier run split shards into partitions of {note.clickstream} and "
                f"{note.orders}, but this one names {self.clickstream} and {self.orders}. Run it "
                f"again with --clickstream-topic {note.clickstream} --orders-topic {note.orders}."
            )

    async def split_all(
        self,
        wait_seconds: float | None,
        on_wait: Callable[[list[str]], object],
        on_moved: Callable[[Moved], object],
    ) -> None:
        """Steps 2 to 4. Raises FatalError if workers still run after `wait_seconds`, or if earlier
        runs and this one don't fit together, and whatever a recovery raises."""
        await wait_until_workers_stopped(self.settings, wait_seconds, on_wait)
        own = [topic.name for topic in wanted(self.settings) if topic.may_have_more]
        await asyncio.to_thread(add_partitions, self._access, own, self.partitions)
        earlier = await asyncio.to_thread(self._committed)
        await self._commit({self._begun: 0}, done=False)
        async with offline_services(self.settings) as before, offline_services(self.new) as other:
            after = replace(other, erasures=before.erasures)
            for number in range(self.settings.kafka.partitions):
                done = await self._split_one(number, before, after)
                if done.earlier:
                    self._require_known(number, earlier)
                self.moved.append(done)
                on_moved(done)
        found = await asyncio.to_thread(self._committed)
        offsets = {at: found[at].offset for at in self._places}
        await self._commit({**offsets, self._begun: 0}, done=True)

    def _require_known(self, number: int, earlier: Mapping[tuple[str, int], Committed]) -> None:
        """Of a shard that an earlier run has split: where to, and how far it had read."""
        places = [(topic, number) for topic in self._old]
        unknown = [at for at in places if at not in earlier]
        if unknown:
            raise offset_unknown(self.group, unknown)
        for at in places:
            if note := Note.of(earlier[at].note):
                self._require_same(note)

    async def _commit(self, offsets: Mapping[tuple[str, int], int], *, done: bool) -> None:
        note = str(self._note(done=done))
        await asyncio.to_thread(commit_for, self._access, self.group, offsets, note)

    async def _split_one(self, number: int, before: Services, after: Services) -> Moved:
        started = time.monotonic()

        async def read(offsets: tuple[int, int]) -> None:
            at = {(topic, number): at for topic, at in zip(self._old, offsets, strict=True)}
            await self._commit(at, done=False)

        users = await split_shard(number, before, after, read)
        into = tuple(range(number, self.partitions, self.settings.kafka.partitions))
        return Moved(number, into, users or 0, time.monotonic() - started, earlier=users is None)

    @property
    def _partitioner(self) -> Partitioner:
        kafka = self.settings.kafka
        assert kafka.partitioner != "unchecked"  # noqa: S101  (refused at the beginning)
        return Partitioner(kafka.partitioner, self.partitions)

    async def copier(self) -> Copier:
        """For step 5: enter it, and start it. Raises BrokerUnavailable."""
        n = self.settings.kafka.partitions
        return Copier(
            self._access,
            self.group,
            dict(zip(self._old, self._new, strict=True)),
            await asyncio.to_thread(counts_of, self._access, self._old),
            known=n,
            to=self._partitioner,
            keyless=lambda partition: partition % n,
            left_out=_of_erased(await read_board(self.settings), self._old, n),
            note=str(self._note(done=True)),
            lateness_ms=int(self.settings.stream.lateness_days * _DAY_MS),
        )


def _of_erased(
    board: ErasureBoard, topics: tuple[str, str], partitions: int
) -> Callable[[str, int, Any], bool]:
    """Whether a record was sent before its customer was erased. An erasure's offsets are those of
    the old topics, so shards that read the new ones can't leave such a record out."""

    def left_out(topic: str, partition: int, record: Any) -> bool:
        if not board.requests or record.key is None:
            return False
        user = record.key.decode(errors="replace")
        source = topics.index(topic)
        return board.covers(user, source, (partition, record.offset), record.timestamp, partitions)

    return left_out
