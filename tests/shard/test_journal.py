"""The journal: one owner at a time wins, readers skip the others, damage is noticed."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from schemas.errors import StateError
from schemas.features import FEATURE_NAMES
from schemas.messages import JournalledSnapshot, LearnerSnapshot
from schemas.releases import LEVEL
from streams.core.plan import Plan
from streams.shard.journal import Fenced, Journal, Step, Takeover, valid_steps
from tests.shard.memory import MemoryLog

TOPIC, SHARD = "journal", 2


def snapshot(version: int, state: bytes = b"") -> LearnerSnapshot:
    return LearnerSnapshot(
        version, "v1", list(FEATURE_NAMES), 9, 0.5, 0.1, 1.0, [0.5], [0.0], [1.0], state=state
    )


def plan(seq: int) -> Plan:
    learner = JournalledSnapshot.of(snapshot(seq))
    return Plan(seq, (seq - 1, 0), (seq, 0), 1000 + seq, 0, "v1", learner)


def journal(log: MemoryLog, owner: str) -> Journal:
    return Journal(log, TOPIC, SHARD, owner)


async def read(log: MemoryLog, start: int = 0, owner: str | None = None) -> list[int]:
    end = log.ends_now(TOPIC, SHARD)[1]
    return [p.seq for p in await journal(log, "reader").read(start, end, owner)]


def test_steps_come_back_as_they_were_written() -> None:
    async def go() -> None:
        log = MemoryLog()
        a = journal(log, "a")
        assert await a.take_over() == 0
        for seq in (1, 2, 3):
            await a.append(plan(seq))
        assert await a.read(0, 4, None) == [plan(1), plan(2), plan(3)]
        assert await a.read(2, 4, "a") == [plan(2), plan(3)]
        assert await a.still_ours()
        assert await a.first_offset() == 0

    asyncio.run(go())


def test_journal_of_a_later_release_is_refused_with_the_release_to_run() -> None:
    async def go() -> None:
        log = MemoryLog()
        await journal(log, "a").take_over()
        later = msgspec.msgpack.encode(Takeover("b", "9.9.0", LEVEL + 1))
        log.put(TOPIC, SHARD, None, later)
        with pytest.raises(StateError, match=r"written by Tideline 9\.9\.0.* Run 9\.9\.0 or later"):
            await read(log)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("came", "ours"),
    [
        ([], True),
        ([msgspec.msgpack.encode(Takeover("b", "9.9.0", LEVEL + 1))], False),
        ([b"\xc1"], False),
    ],
    ids=["nothing", "a later release", "what only a later release can read"],
)
def test_owner_sees_a_takeover_of_any_release(came: list[bytes], ours: bool) -> None:
    async def go() -> None:
        log = MemoryLog()
        a = journal(log, "a")
        await a.take_over()
        await a.append(plan(1))
        for value in came:
            log.put(TOPIC, SHARD, None, value)
        assert await a.ours_since(a.next_offset - 1) is ours

    asyncio.run(go())


def test_takeover_without_a_release_counts_as_an_earlier_one() -> None:
    async def go() -> None:
        log = MemoryLog()
        before = {"type": "takeover", "owner": "a", "of_theirs": 7}
        log.put(TOPIC, SHARD, None, msgspec.msgpack.encode(before))
        assert await read(log) == []

    asyncio.run(go())


def test_journalled_snapshot_is_converted_to_this_builds_features() -> None:
    async def go() -> None:
        log = MemoryLog()
        a = journal(log, "a")
        await a.take_over()
        theirs = replace(
            snapshot(1), features=["of_theirs", FEATURE_NAMES[3]],
            weights=[1.0, 2.0], mean=[3.0, 4.0], scale=[5.0, 6.0],
        )  # fmt: skip
        await a.append(replace(plan(1), learner=JournalledSnapshot.of(theirs)))
        ((found,),) = [await a.read(0, 2, None)]
        assert found.learner is not None
        assert found.learner.features == list(FEATURE_NAMES)
        wanted = {3: (2.0, 4.0, 6.0)}
        numbers = zip(found.learner.weights, found.learner.mean, found.learner.scale, strict=True)
        assert list(numbers) == [wanted.get(f, (0.0, 0.0, 1.0)) for f in range(len(FEATURE_NAMES))]

    asyncio.run(go())


@pytest.mark.parametrize("state", [b"", b"optimiser"])
def test_a_snapshot_is_journalled_without_its_state_and_read_with_one(state: bytes) -> None:
    """Journals of 0.1.0 have the state as text, in plans and in checkpoints; MessagePack tells text
    and bytes apart."""
    journalled = JournalledSnapshot.of(snapshot(3, state))
    encoded = msgspec.msgpack.encode(journalled)
    assert msgspec.msgpack.decode(encoded)["state"] == ""
    assert msgspec.msgpack.decode(encoded, type=JournalledSnapshot) == journalled
    of_0_1_0 = msgspec.msgpack.encode(msgspec.to_builtins(snapshot(3, state)))
    read = msgspec.msgpack.decode(of_0_1_0, type=JournalledSnapshot)
    assert isinstance(read.state, str)
    assert replace(read, state="") == journalled


@pytest.mark.parametrize("order", sorted(set(itertools.permutations("aaabbb"))))
def test_of_two_owners_interleaved_only_the_last_to_take_over_goes_on(order: tuple[str]) -> None:
    """Each letter is one move of that owner: first it takes over, then it writes steps.

    Whoever took over last writes on; the other is fenced at its first step after that, and no step
    that it wrote after losing the shard is read by anyone.
    """

    async def go() -> None:
        log = MemoryLog()
        owners: dict[str, Any] = {name: journal(log, name) for name in "ab"}
        next_seq: dict[str, int] = {}
        written: list[Plan] = []  # steps whose append returned
        fenced: set[str] = set()
        for name in order:
            if name not in next_seq:
                await owners[name].take_over()
                next_seq[name] = 1 + len(await read(log))
            elif name not in fenced:
                mine = msgspec.structs.replace(plan(next_seq[name]), champion=name)
                try:
                    await owners[name].append(mine)
                    written.append(mine)
                    next_seq[name] += 1
                except Fenced:
                    fenced.add(name)
        end = log.ends_now(TOPIC, SHARD)[1]
        counted = await journal(log, "reader").read(0, end, None)
        # Numbers have no gaps and no repeats, and what a writer wrote counts for every reader.
        assert [p.seq for p in counted] == list(range(1, len(counted) + 1))
        assert all(p in counted for p in written)
        # A step that counts although its writer was stopped is the last takeover's, for its next
        # owner to replay. The one who lost the shard has none.
        entries = [
            msgspec.msgpack.decode(v or b"", type=Takeover | Step)
            for _, _, v in log.records(TOPIC, SHARD)
        ]
        winner = [e.owner for e in entries if isinstance(e, Takeover)][-1]
        assert all(p.champion == winner for p in counted if p not in written)

    asyncio.run(go())


def test_exactly_one_of_two_that_write_at_the_same_time_wins() -> None:
    async def go() -> None:
        log = MemoryLog()
        a, b = journal(log, "a"), journal(log, "b")
        await a.take_over()
        await b.take_over()
        results = await asyncio.gather(a.append(plan(1)), b.append(plan(1)), return_exceptions=True)
        # `a` wrote first, so even `b`, the owner, finds its record elsewhere: it is fenced too and
        # recovers. That costs a recovery, but never lets two think that they own the shard.
        assert isinstance(results[0], Fenced)
        assert await read(log) == [1]
        again = journal(log, "b2")
        await again.take_over()
        await again.append(plan(2))
        with pytest.raises(Fenced):
            await a.append(plan(2))
        assert await read(log) == [1, 2]
        assert not await again.still_ours()

    asyncio.run(go())


def test_a_step_sent_twice_counts_once_and_stops_its_writer() -> None:
    """A producer without idempotence repeats a request whose answer got lost."""

    async def go() -> None:
        log = MemoryLog()
        a = journal(log, "a")
        await a.take_over()
        await a.append(plan(1))
        log.put(TOPIC, SHARD, None, msgspec.msgpack.encode(Step("a", plan(1))))
        assert not await a.still_ours()
        with pytest.raises(Fenced):
            await a.append(plan(2))
        assert await read(log) == [1, 2]

    asyncio.run(go())


def test_a_reader_in_the_middle_needs_the_owner_only_where_strangers_wrote() -> None:
    stray = Step("zombie", plan(7))
    entries: list[Takeover | Step] = [
        stray,
        Step("a", plan(4)),
        Takeover("b"),
        Step("a", plan(5)),
        Step("b", plan(5)),
    ]
    assert [p.seq for p in valid_steps(entries, "a")] == [4, 5]
    assert [p.seq for p in valid_steps(entries[1:])] == [4, 5]
    assert valid_steps([]) == []
    assert valid_steps([Takeover("a"), stray]) == []


@pytest.mark.parametrize(
    "damage", [b"", b"\xc1", b"\x93abc", msgspec.msgpack.encode({"type": "x"})]
)
def test_a_record_that_is_none_of_ours_is_a_state_error_that_names_it(damage: bytes) -> None:
    async def go() -> None:
        log = MemoryLog()
        a = journal(log, "a")
        await a.take_over()
        for seq in (1, 2, 3):
            await a.append(plan(seq))
        log.replace(TOPIC, SHARD, 2, damage)
        with pytest.raises(StateError, match=f"{TOPIC}/{SHARD} offset 2"):
            await read(log)

    asyncio.run(go())


def test_every_cut_of_a_record_is_noticed() -> None:
    async def go() -> None:
        log = MemoryLog()
        a = journal(log, "a")
        await a.take_over()
        await a.append(plan(1))
        whole = log.records(TOPIC, SHARD)[1][2] or b""
        for length in range(len(whole)):
            log.replace(TOPIC, SHARD, 1, whole[:length])
            with pytest.raises(StateError):
                await read(log)

    asyncio.run(go())
