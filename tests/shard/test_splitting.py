"""A shard is split on a log in memory, and the command that does it dies at every call it makes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from schemas.errors import StateError
from schemas.messages import ErasureRequest
from schemas.topics import TopicNames
from streams.core.erasure import digest, probe_of
from streams.core.partitioning import Partitioner, partitions_of_keys
from streams.core.state.shard_state import ShardState
from streams.core.state.split import split
from streams.shard.inputs import PartitionsDiffer
from streams.shard.offline import OfflineShard
from streams.shard.services import Services
from streams.shard.splitting import split_shard
from tests.shard.memory import Faults, NoFaults
from tests.shard.oracle import Oracle, assert_same_state
from tests.shard.rig import SHARD, TOPICS, CrashAt, Crashed, Rig, quick_shards, script
from tests.shard.sweep import STRIDES, sweep

__all__ = ["quick_shards"]

pytestmark = [pytest.mark.usefixtures("quick_shards"), pytest.mark.timeout(600)]

OLD, NEW = Partitioner("murmur2", 4), Partitioner("murmur2", 12)
AFTER = TopicNames("clicks-2", "orders-2", TOPICS.app)
INTO = (SHARD, SHARD + 4, SHARD + 8)


def world() -> Rig:
    """A shard of four that has taken steps, with and without a checkpoint behind them, and whose
    worker died."""
    rig = Rig()
    rig.config = replace(rig.config, partitioner=OLD)
    source = replace(script(), users=30, events=240)
    rig.load([[r for r in block if r.key is None or belongs(r.key)] for block in source])
    rig.log.put(AFTER.clickstream, INTO[1], None, None)  # what is there is not there any more
    rig.log.expire(AFTER.clickstream, INTO[1], 1)
    return rig


def belongs(key: bytes) -> bool:
    return int(partitions_of_keys([key], OLD.name, OLD.partitions)[0]) == SHARD


class Command:
    """One run of the command: its services, before and after."""

    def __init__(self, rig: Rig, faults: Faults | None = None) -> None:
        process = rig.process("command", faults or NoFaults())
        self.before = process.services()
        config = replace(rig.config, partitioner=NEW)
        self.after = replace(self.before, topics=AFTER, config=config)
        self.read: list[tuple[int, int]] = []
        self._faults = process.faults

    async def note(self, offsets: tuple[int, int]) -> None:
        await self._faults.at("note: before")
        self.read.append(offsets)
        await self._faults.at("note: after")

    async def run(self) -> int | None:
        return await split_shard(SHARD, self.before, self.after, self.note)


async def died(rig: Rig, at: int) -> None:
    """A worker that ran until its n-th call."""
    with pytest.raises(Crashed):
        await rig.process("worker", CrashAt(at)).run()


async def stored(services: Services, shard: int) -> ShardState:
    """The state that the shard's next owner would begin with."""
    found = OfflineShard(shard, services)
    return await found.recover()


async def check(rig: Rig, command: Command) -> Oracle:
    """The shards that follow have what the journal's replay has, split; the rows are its rows."""
    oracle = await rig.oracle()
    assert rig.sink.rows == oracle.rows
    assert rig.sink.changed == []
    for q in INTO:
        starts = (1, 0) if q == INTO[1] else (0, 0)
        wanted = split(oracle.state, q, NEW, starts)
        assert_same_state(await stored(command.after, q), wanted)
    assert command.read[-1] == tuple(oracle.state.meta.offsets)
    return oracle


def test_split_includes_everything_in_the_journal() -> None:
    async def go() -> None:
        rig = world()
        await died(rig, 90)
        command = Command(rig)
        users = await command.run()
        oracle = await check(rig, command)
        assert users == oracle.state.known > 3
        assert len(oracle.plans) > 3
        assert await Command(rig).run() is None  # by an earlier run
        with pytest.raises(PartitionsDiffer, match="`tideline repartition` was interrupted"):
            await stored(command.before, SHARD)

    asyncio.run(go())


@STRIDES
def test_command_killed_at_any_call_leaves_the_shard_whole_or_fully_split(stride: int) -> None:
    async def attempt(n: int) -> bool:
        rig = world()
        await died(rig, 90)
        first = Command(rig, CrashAt(n))
        try:
            await first.run()
            return False
        except Crashed:
            pass
        try:
            await stored(Command(rig).after, SHARD)  # a worker with the new settings
            assert first.read, "it counts, and nobody knows what was read"
            again = first
            assert await Command(rig).run() is None
        except PartitionsDiffer:
            again = Command(rig)
            assert await again.run() is not None
        again.before = Command(rig).before
        again.after = Command(rig).after
        await check(rig, again)
        return True

    assert sweep(attempt, stride) > 40


@STRIDES
def test_shard_runs_on_after_a_kill_before_the_split_counts_and_is_split_later(stride: int) -> None:
    async def attempt(n: int) -> bool:
        rig = world()
        await died(rig, 60)
        try:
            await Command(rig, CrashAt(n)).run()
            return False
        except Crashed:
            pass
        process = rig.process("goes on")
        try:
            await process.run()
        except PartitionsDiffer:
            return True  # it counts already
        again = Command(rig)
        await again.run()
        oracle = await check(rig, again)
        assert tuple(oracle.state.meta.offsets) == rig.ends
        return True

    assert sweep(attempt, stride) > 40


def test_shard_without_steps_is_split_into_empty_ones() -> None:
    async def go() -> None:
        rig = Rig()
        rig.config = replace(rig.config, partitioner=OLD)
        command = Command(rig)
        assert await command.run() == 0
        for q in INTO:
            meta = (await stored(command.after, q)).meta
            assert (meta.seq, meta.partitions, meta.offsets) == (0, 12, [0, 0])

    asyncio.run(go())


def test_shard_with_customers_of_other_partitions_is_refused_and_unchanged() -> None:
    """An application that never checked keys names a partitioner that is not the producers'."""

    async def go() -> None:
        rig = Rig()  # its customers are of all partitions
        rig.load(script())
        await died(rig, 90)
        rig.config = replace(rig.config, partitioner=OLD)
        before = await stored(rig.process("reader").services(), SHARD)
        wrong = sum(not belongs(user.encode()) for user in before.users[: before.n] if user)
        assert 0 < wrong < before.known == before.n
        command = Command(rig)
        with pytest.raises(
            StateError, match=f"{wrong} of its {before.known} customers are in anot"
        ):
            await command.run()
        assert not command.read
        assert_same_state(await stored(command.before, SHARD), before)

    asyncio.run(go())


def test_open_erasure_is_done_before_the_split() -> None:
    user = next(f"u{i}" for i in range(99) if belongs(f"u{i}".encode()))

    async def go() -> None:
        rig = world()
        await died(rig, 90)
        asked_to_erase(rig, user)
        command = Command(rig)
        await command.run()
        assert {key.rpartition(b"/")[2] for key in reports(rig)} == {str(q).encode() for q in INTO}
        for q in INTO:
            state = await stored(command.after, q)
            assert user not in state.rows_by_user
            assert [e.found for e in state.meta.erased] == [True]

    asyncio.run(go())


def test_state_written_by_a_command_knows_its_partitions_before_the_first_step() -> None:
    async def go() -> None:
        rig = Rig()
        rig.config = replace(rig.config, partitioner=OLD)
        command = Command(rig)
        shard = OfflineShard(SHARD, command.before)
        await shard.recover()
        await shard.checkpoint()
        with pytest.raises(PartitionsDiffer, match="its state was made for 4 partitions"):
            await stored(command.after, SHARD)

    asyncio.run(go())


def test_state_of_a_third_number_of_partitions_is_not_split() -> None:
    async def go() -> None:
        rig = world()
        await died(rig, 90)
        await Command(rig).run()
        other: Any = Command(rig)
        other.after = replace(
            other.after, config=replace(rig.config, partitioner=Partitioner("murmur2", 8))
        )
        with pytest.raises(StateError, match="for 12 partitions"):
            await other.run()

    asyncio.run(go())


def asked_to_erase(rig: Rig, user: str) -> None:
    salt = b"salt"
    request = ErasureRequest(
        erasure_id="1", digest=digest(salt, user), salt=salt, probe=probe_of(salt, user),
        requested_at_ms=1, ends=[(10**6, 10**6)] * OLD.partitions, operator="test",
    )  # fmt: skip
    key = f"request/{request.digest}".encode()
    rig.log.put(TOPICS.erasures, 0, key, msgspec.msgpack.encode(request))


def reports(rig: Rig) -> list[bytes]:
    keys = (key or b"" for _, key, _ in rig.log.records(TOPICS.erasures, 0))
    return [key for key in keys if key.startswith(b"done/")]


@STRIDES
def test_erasure_is_reported_once_after_the_split_and_kept_by_every_successor(stride: int) -> None:
    user = next(f"u{i}" for i in range(99) if belongs(f"u{i}".encode()))

    async def attempt(n: int) -> bool:
        rig = world()
        asked_to_erase(rig, user)
        await died(rig, 40)
        assert not reports(rig)  # erased by a journalled step, and in no checkpoint yet
        try:
            await Command(rig, CrashAt(n)).run()
            ended = True
        except Crashed:
            ended = False
        before = {key.rpartition(b"/")[2] for key in reports(rig)}
        own = str(SHARD).encode()
        try:
            states = [await stored(Command(rig).after, q) for q in INTO]
        except PartitionsDiffer:
            assert own not in before
            return not ended
        for q, state in zip(INTO, states, strict=True):
            assert [(e.shard, e.stop) for e in state.meta.erased] == [(q, (0, 0))]
        assert before == {str(q).encode() for q in INTO} or not ended
        return not ended

    assert sweep(attempt, stride) > 40
