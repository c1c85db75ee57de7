"""An erasure at every call where the process may die: when it is reported, it is for good."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import msgspec
import pytest

from schemas.errors import StateError
from schemas.messages import Erasure, ErasureRequest, LearnerSnapshot
from streams.core.erasure import digest, probe_of
from streams.evaluation.training import without_erased
from streams.privacy.erasure_board import ErasureBoard
from streams.replay.records import InputRecord
from streams.shard.page_codec import Unpacked
from tests.shard.memory import Faults, MemoryLog, MemorySink, NoFaults
from tests.shard.oracle import assert_same_state
from tests.shard.rig import (
    FETCH_ALL,
    SHARD,
    TOPICS,
    CrashAt,
    Crashed,
    Process,
    Rig,
    quick_shards,
    script,
)
from tests.shard.sweep import STRIDES

__all__ = ["quick_shards"]

# Enumerations run a shard a hundred times, and the machine may be busy.
pytestmark = [pytest.mark.usefixtures("quick_shards"), pytest.mark.timeout(600)]

SALT = b"salt"
GONE = "u0"
ENOUGH_POINTS = 30


def request(rig: Rig, user: str = GONE, erasure_id: str = "one") -> ErasureRequest:
    """For all that is in the input now."""
    ends = [(0, 0)] * SHARD + [rig.ends]
    return ErasureRequest(
        erasure_id, digest(SALT, user), SALT, probe_of(SALT, user), 10**15, ends, "op"
    )


class Erasing(Process):
    """A process that hears of the request when it is through half of the input."""

    asked_at_call = 0

    def _learner(self) -> LearnerSnapshot | None:
        if sum(self.at) >= sum(self.rig.ends) // 2:
            asked = request(self.rig)
            if asked.digest not in self.board.requests:
                # as `tideline erase` writes it, and `refresh` finds it
                self.rig.log.put(TOPICS.erasures, 0, b"request", msgspec.msgpack.encode(asked))
                self.board.requests[asked.digest] = asked
                if isinstance(self.faults, CrashAt):
                    self.asked_at_call = self.faults.calls
        return super()._learner()


def process(rig: Rig, owner: str, faults: Faults | None = None) -> Process:
    return Erasing(rig, owner, faults or NoFaults(), FETCH_ALL)


@cache
def script_log() -> MemoryLog:
    rig = Rig()
    rig.load(script())
    return rig.log


def loaded() -> Rig:
    return Rig(script_log().copy())


def reported(rig: Rig) -> bool:
    values = [v or b"" for _, _, v in rig.log.records(TOPICS.erasures, 0)]
    entries = [msgspec.msgpack.decode(v, type=ErasureRequest | Erasure) for v in values]
    return any(isinstance(e, Erasure) and e.shard == SHARD for e in entries)


def rows_of(sink: MemorySink, user: str) -> list[tuple[str, Any]]:
    return [
        (table, key)
        for table, rows in sink.rows.items()
        for key, row in rows.items()
        if row.get("user_id") == user or row.get("record_key") == user
    ]


def names_in_pages(log: MemoryLog) -> list[bytes]:
    """Every page of user ids that the broker keeps for good: the newest record of each key."""
    newest = {k: v for _, k, v in log.records(TOPICS.checkpoints, SHARD) if k is not None}
    pages = Unpacked({k: v for k, v in newest.items() if b"/users/" in k and v is not None})
    assert all(pages.values())
    return list(pages.values())


async def check_for_good(rig: Rig, where: str) -> None:
    """It has been reported: so say the newest checkpoint, and all that a broker keeps of it."""
    assert not [page for page in names_in_pages(rig.log) if GONE.encode() in page], where
    reader = rig.process("reader")
    plans = await reader.shard._journal.read(0, rig.log.ends_now(TOPICS.journal, SHARD)[1], None)
    stored = await reader.shard._store.load()
    assert stored is not None, where
    assert stored.manifest.seq >= next(p.seq for p in plans if p.erase), where


@STRIDES
def test_a_crash_at_every_call_never_brings_a_reported_person_back(stride: int) -> None:
    async def go() -> None:
        rig, calls = loaded(), CrashAt(10**9)
        whole = Erasing(rig, "first", calls, FETCH_ALL)
        await whole.run()
        points = reports = 0
        # Backwards: the few calls after the report are the last ones.
        for n in range(calls.calls, whole.asked_at_call - 3, -stride):
            rig, crash = loaded(), CrashAt(n)
            try:
                await process(rig, "first", crash).run()
            except Crashed:
                points += 1
            if not crash.where:
                continue
            if reported(rig):
                reports += 1
                await check_for_good(rig, crash.where)
                # as `tideline erase` does next
                for table, key in rows_of(rig.sink, GONE):
                    del rig.sink.rows[table][key]
            after = reported(rig)
            second = process(rig, "second")
            await second.run()
            assert reported(rig)
            await check_for_good(rig, crash.where)
            oracle = await rig.oracle()
            assert oracle.plans[-1].stop == rig.ends
            assert_same_state(second.shard._state, oracle.state)
            assert GONE not in second.shard._state.rows_by_user
            assert sum(len(p.erase) for p in oracle.plans) == 1
            if after:
                assert rows_of(rig.sink, GONE) == [], crash.where
            wanted = {t: {k for k, r in rows.items() if r.get("user_id") != GONE}
                      for t, rows in oracle.rows.items() if t != "dead_letters"}  # fmt: skip
            found = {t: {k for k, r in rows.items() if r.get("user_id") != GONE}
                     for t, rows in rig.sink.rows.items() if t != "dead_letters"}  # fmt: skip
            assert found == wanted, crash.where
        assert points > ENOUGH_POINTS // stride
        assert ENOUGH_POINTS // 4 // stride <= reports < points

    asyncio.run(go())


def test_a_state_rebuilt_from_nothing_never_knew_the_person() -> None:
    async def go() -> None:
        rig = loaded()
        first = process(rig, "first")
        await first.run()
        assert rows_of(rig.sink, GONE)
        (done,) = first.shard._state.meta.erased
        for topic in (TOPICS.journal, TOPICS.checkpoints):
            rig.log.cut(topic, SHARD, 0)
        rebuilt = Rig(rig.log)
        second = rebuilt.process("second")
        await second.run()
        assert rows_of(rebuilt.sink, GONE) == []
        (again,) = second.shard._state.meta.erased
        assert (again.cutoff_ms, again.stop, again.found) == (done.cutoff_ms, done.stop, True)
        oracle = await rebuilt.oracle()
        assert sum(o.counts.erased for o in oracle.outputs) == sum(
            key == GONE.encode()
            for topic in (TOPICS.clickstream, TOPICS.orders)
            for _, key, _ in rebuilt.log.records(topic, SHARD)
        ) + named_elsewhere(rebuilt)

    asyncio.run(go())


def named_elsewhere(rig: Rig) -> int:
    """Broken records whose text names the person, under another key or none."""
    quoted = f'"user_id":"{GONE}"'.encode()
    return sum(
        key != GONE.encode() and quoted in (value or b"")
        for topic in (TOPICS.clickstream, TOPICS.orders)
        for _, key, value in rig.log.records(topic, SHARD)
    )


def test_a_shard_without_records_erases_too_and_only_once() -> None:
    async def go() -> None:
        rig = loaded()
        first = rig.process("first")
        await first.run()
        asked = request(rig)
        await ErasureBoard(rig.log, TOPICS.erasures).ask(asked)
        second = rig.process("second")
        second.shard.start(second.failed)
        await second.until(lambda: reported(rig))
        await second.shard.suspend(30)
        assert GONE not in second.shard._state.rows_by_user
        oracle = await rig.oracle()
        assert [len(p.erase) for p in oracle.plans].count(1) == 1
        assert oracle.plans[-1].start == oracle.plans[-1].stop == rig.ends

    asyncio.run(go())


def test_the_board_reads_on_drops_nothing_and_refuses_what_it_cant_read() -> None:
    async def go() -> None:
        rig = loaded()
        board = ErasureBoard(rig.log, TOPICS.erasures)
        asked = request(rig)
        await ErasureBoard(rig.log, TOPICS.erasures).ask(asked)
        assert board.waiting(asked) == [0, 1, 2, 3]
        await board.refresh()
        assert board.requests == {asked.digest: asked}
        done = Erasure("one", asked.digest, SALT, asked.probe, SHARD, 5, (1, 2), 9)
        await board.report([done])
        await board.report([done])
        assert len(rig.log.records(TOPICS.erasures, 0)) == 2
        other = ErasureBoard(rig.log, TOPICS.erasures)
        await other.refresh()
        assert (other.waiting(asked), other.reports(asked)) == ([0, 1, 2], [done])
        assert other.match(GONE) == [done]
        assert other.match("somebody") == []
        assert other.covers(GONE, 0, (SHARD, 0), 10, 4)  # by its offset
        assert other.covers(GONE, 0, (SHARD, 10**9), 4, 4)  # by its time
        assert not other.covers(GONE, 0, (SHARD, 10**9), 5, 4)
        assert not other.covers("somebody", 0, (SHARD, 0), 0, 4)
        # The request's offsets, and the report's, are of topics with 4 partitions.
        assert not other.covers(GONE, 0, (SHARD, 0), 10, 8)
        assert other.covers(GONE, 0, (SHARD, 0), 4, 8)
        rig.log.put(TOPICS.erasures, 0, b"x", b"\xc1")
        with pytest.raises(StateError, match="not a record of an erasure"):
            await other.refresh()

    asyncio.run(go())


def test_training_leaves_out_what_was_before_the_erasure() -> None:
    rig = loaded()
    board = ErasureBoard(rig.log, TOPICS.erasures)
    asked = request(rig)
    board.requests[asked.digest] = asked
    board.done[asked.digest, SHARD] = Erasure(
        "one", asked.digest, SALT, asked.probe, SHARD, 500, (1, 2), 9
    )
    history = [
        [
            InputRecord("orders", key, b"{}", at)
            for at in (1, 499, 500, 900)
            for key in (b"u0", b"u1")
        ]
    ]
    kept = [
        (r.key, r.timestamp_ms)
        for block in without_erased(history, board.forgotten_until)
        for r in block
    ]
    assert kept == [
        (b"u1", 1),
        (b"u1", 499),
        (b"u0", 500),
        (b"u1", 500),
        (b"u0", 900),
        (b"u1", 900),
    ]
    del board.done[asked.digest, SHARD]
    assert board.forgotten_until(GONE) == asked.requested_at_ms
