"""Checkpoints: at every cut of the topic the last complete one loads, compacted or not."""

from __future__ import annotations

import asyncio
from typing import Any

import cramjam
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import StateError
from schemas.releases import LEVEL
from streams.core.state.pages import PAGE_BYTES, Source, page_key
from streams.shard import checkpoints as checkpoints_module
from streams.shard.checkpoints import Begun, CheckpointStore
from streams.shard.page_codec import Unpacked
from tests.shard.memory import MemoryLog

TOPIC, SHARD = "checkpoints", 1
Arrays = dict[str, NDArray[Any]]
ITEMS = PAGE_BYTES // 8  # int64 per page


def store(log: MemoryLog, writer: str) -> CheckpointStore:
    """Writers took the shard over in the order of their names."""
    return CheckpointStore(log, TOPIC, SHARD, writer, takeover=ord(writer[0]))


def states() -> list[Arrays]:
    """A state's life: it grows over page borders, changes here and there, shrinks, gains and
    loses arrays, and comes back."""
    rng = np.random.default_rng(1)
    big = rng.integers(0, 99, 2 * ITEMS + 5)
    changed = big.copy()
    changed[ITEMS + 1] += 1  # the second of three pages
    odd = np.array([1, np.nan], np.float32)
    return [
        {"a": np.arange(3), "empty": np.empty(0, np.float32)},
        {"a": big, "empty": np.empty(0, np.float32)},
        {"a": changed, "flags": np.array([True, False])},
        {"a": changed[:ITEMS], "flags": np.array([True, True]), "x": odd},
        {"flags": np.array([True, True])},
        {"a": big, "empty": np.ones(1, np.float32), "flags": np.array([False])},
    ]


def begun(kept: CheckpointStore, seq: int, arrays: Arrays, journal_offset: int) -> Begun:
    sources = {name: Source.constant(array, changed=True) for name, array in arrays.items()}
    return kept.begin(seq, journal_offset, b"meta %d" % seq, sources)


async def finish(kept: CheckpointStore, checkpoint: Begun) -> None:
    while checkpoint.writing.left:
        await kept.write(checkpoint.writing.take(1))
    await kept.complete(checkpoint)


async def write(kept: CheckpointStore, seq: int, arrays: Arrays, journal_offset: int) -> None:
    await finish(kept, begun(kept, seq, arrays, journal_offset))


async def loaded(log: MemoryLog) -> tuple[int, Arrays] | None:
    found = await store(log, "~").load()
    return None if found is None else (found.manifest.seq, found.arrays)


def same(ours: Arrays, wanted: Arrays) -> bool:
    return ours.keys() == wanted.keys() and all(
        ours[k].dtype == wanted[k].dtype and ours[k].tobytes() == wanted[k].tobytes() for k in ours
    )


async def history(writers: str) -> tuple[MemoryLog, list[int]]:
    """One checkpoint per letter, by that writer (a new letter loads first, as an owner does).
    Returns the log, and where it ended when each checkpoint was complete."""
    log, ends, kept = MemoryLog(), [], None
    for seq, (writer, arrays) in enumerate(zip(writers, states(), strict=True), 1):
        if kept is None or kept.writer != writer:
            kept = store(log, writer)
            await kept.load()
        await write(kept, seq, arrays, 10 * seq)
        manifests = [o for o, k, _ in log.records(TOPIC, SHARD) if (k or b"").startswith(b"manif")]
        ends.append([o for o in manifests if log.records(TOPIC, SHARD)[o][2] is not None][-1] + 1)
    return log, ends


def test_checkpoint_of_a_later_release_is_refused_even_if_an_older_one_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def go() -> None:
        log, _ = await history("aaaaaa")
        with monkeypatch.context() as later:
            later.setattr(checkpoints_module, "LEVEL", LEVEL + 1)
            later.setattr(checkpoints_module, "RELEASE", "9.9.0")
            await write(store(log, "b"), 7, states()[0], 70)
        with pytest.raises(StateError, match=r"by Tideline 9\.9\.0.* Run 9\.9\.0 or later"):
            await loaded(log)

    asyncio.run(go())


def test_an_empty_topic_has_no_checkpoint() -> None:
    assert asyncio.run(loaded(MemoryLog())) is None


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("writers", ["aaaaaa", "aabbbb", "abcdef", "aaabbc"])
def test_cut_after_any_record_the_last_complete_checkpoint_loads(
    writers: str, compact: bool
) -> None:
    async def go() -> None:
        whole, ends = await history(writers)
        for end in range(whole.ends_now(TOPIC, SHARD)[1] + 1):
            log = whole.copy()
            log.cut(TOPIC, SHARD, end)
            if compact:
                log.compact(TOPIC, SHARD)
            seq = sum(complete <= end for complete in ends)
            found = await loaded(log)
            if not seq:
                assert found is None
                continue
            assert found is not None
            assert found[0] == seq, end
            assert same(found[1], states()[seq - 1]), end

    asyncio.run(go())


def test_a_writer_after_any_cut_leaves_a_topic_that_loads() -> None:
    """An owner dies at any record; its successor writes over what it left, and dies as well."""

    async def go() -> None:
        whole, ends = await history("aaaabb")
        for end in range(whole.ends_now(TOPIC, SHARD)[1] + 1):
            log = whole.copy()
            log.cut(TOPIC, SHARD, end)
            kept = store(log, "z")
            await kept.load()
            before = log.ends_now(TOPIC, SHARD)[1]
            await write(kept, 99, states()[1], 1000)
            for cut in range(before, log.ends_now(TOPIC, SHARD)[1] + 1):
                part = log.copy()
                part.cut(TOPIC, SHARD, cut)
                part.compact(TOPIC, SHARD)
                found = await loaded(part)
                seq = sum(complete <= end for complete in ends)
                assert (found[0] if found else 0) in (seq, 99)

    asyncio.run(go())


def test_only_changed_pages_are_written() -> None:
    async def go() -> None:
        kept = store(MemoryLog(), "a")
        big = np.arange(5 * ITEMS)
        first = begun(kept, 1, {"a": big}, 0)
        assert first.writing.left == 5
        await finish(kept, first)
        assert begun(kept, 2, {"a": big}, 0).writing.take(10**9) == []
        big[3 * ITEMS] += 1
        second = begun(kept, 2, {"a": big}, 0).writing.take(10**9)
        assert [(name, index, slot, len(page)) for name, index, slot, page in second] == [
            ("a", 3, 1, PAGE_BYTES)
        ]

    asyncio.run(go())


def test_no_record_grows_with_the_number_of_arrays() -> None:
    """The table of a million users' pages is cut into pages too."""

    async def go() -> None:
        log = MemoryLog()
        kept = store(log, "a")
        many = {f"questions/{i}/{'x' * 60}": np.arange(i % 3) for i in range(20_000)}
        await write(kept, 1, many, 0)
        await write(kept, 2, many, 0)
        assert max(len(value or b"") for _, _, value in log.records(TOPIC, SHARD)) <= PAGE_BYTES
        found = await loaded(log)
        assert found is not None
        assert found[0] == 2
        assert same(found[1], many)

    asyncio.run(go())


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_any_damaged_page_is_noticed_and_the_one_before_is_used_where_there_is_one(
    damage: str,
) -> None:
    async def go() -> None:
        whole, _ = await history("aaaaab")
        records = [(o, k or b"", v) for o, k, v in whole.records(TOPIC, SHARD)]
        newest = [(o, v) for o, k, v in records if k.startswith(b"page/98.b/") and v]
        assert len(newest) >= 4
        for offset, value in newest:
            log = whole.copy()
            if damage == "altered":
                assert value is not None
                log.replace(TOPIC, SHARD, offset, bytes([value[0] ^ 1]) + value[1:])
            else:
                log._partitions[TOPIC, SHARD].entries = [
                    e for e in log._partitions[TOPIC, SHARD].entries if e[0] != offset
                ]
            with pytest.raises(StateError, match=f"{damage}.*{TOPIC}|{TOPIC}.*{damage}"):
                await loaded(log)  # `b` has swept `a` away: there is nothing older
            # Before the sweep the older one is still there, and is taken instead.
            end = max(o for o, k, v in records if k == b"manifest/98.b") + 1
            log.cut(TOPIC, SHARD, end)
            found = await loaded(log)
            assert found is not None
            assert found[0] == 5
            assert same(found[1], states()[4])

    asyncio.run(go())


def test_a_manifest_of_another_version_is_a_state_error() -> None:
    async def go() -> None:
        log, _ = await history("aaaaaa")
        offset = max(o for o, k, _ in log.records(TOPIC, SHARD) if k == b"manifest/97.a")
        log.replace(TOPIC, SHARD, offset, b"\x81\xa1x\x01")
        with pytest.raises(StateError, match="Run the version that wrote it"):
            await loaded(log)

    asyncio.run(go())


def test_of_two_writers_the_one_further_on_in_the_journal_counts() -> None:
    """A worker that lost the shard may finish a checkpoint after its successor wrote one."""

    async def go() -> None:
        log = MemoryLog()
        old, new = store(log, "a"), store(log, "b")
        await write(old, 1, states()[0], 10)
        late = begun(old, 2, states()[1], 20)
        await new.load()
        await write(new, 3, states()[2], 30)
        await finish(old, late)
        found = await loaded(log)
        assert found is not None
        assert found[0] == 3
        assert same(found[1], states()[2])
        # The next owner sweeps what both left.
        third = store(log, "c")
        await third.load()
        await write(third, 4, states()[3], 40)
        newest = {k or b"": v for _, k, v in log.records(TOPIC, SHARD)}
        assert {k.split(b"/")[1] for k, v in newest.items() if v is not None} == {b"99.c"}

    asyncio.run(go())


def test_a_worker_that_lost_the_shard_while_it_recovered_sweeps_nothing_of_its_successor() -> None:
    async def go() -> None:
        log = MemoryLog()
        first = store(log, "a")
        await write(first, 1, states()[0], 10)
        late, successor = store(log, "b"), store(log, "c")
        await successor.load()
        await write(successor, 2, states()[1], 30)
        await late.load()  # it was paused behind its takeover, and reads what its successor wrote
        await write(late, 1, states()[0], 20)
        assert (await loaded(log) or (0,))[0] == 2
        await write(successor, 3, states()[2], 40)
        found = await loaded(log)
        assert found is not None
        assert found[0] == 3
        assert same(found[1], states()[2])

    asyncio.run(go())


def test_the_topic_stays_small_when_compacted() -> None:
    async def go() -> None:
        log = MemoryLog()
        kept = store(log, "a")
        await kept.load()
        rng = np.random.default_rng(3)
        for seq in range(1, 40):
            size = int(rng.integers(0, 3 * ITEMS))
            await write(kept, seq, {"a": rng.integers(0, 9, size), f"q/{seq}": np.arange(4)}, seq)
            log.compact(TOPIC, SHARD)
        alive = [k for _, k, v in log.records(TOPIC, SHARD) if v is not None]
        # Two slots of at most three pages and of the table's, one array's page, the manifest, and
        # the active segment.
        assert len(set(alive)) <= 2 * 3 + 2 + 2 + 4, sorted(set(alive), key=str)

    asyncio.run(go())


@pytest.mark.parametrize("purge", [False, True])
def test_a_purge_drops_what_changed_pages_had_before_and_nothing_else(purge: bool) -> None:
    """They may name a person who was erased. Without it they stay until the next change."""

    async def go() -> None:
        log = MemoryLog()
        _, big, changed, *_ = (each["a"] for each in states() if "a" in each)
        kept = store(log, "a")
        await kept.load()
        await write(kept, 1, {"a": big}, 10)
        checkpoint = begun(kept, 2, {"a": changed}, 20)
        while checkpoint.writing.left:
            await kept.write(checkpoint.writing.take(1))
        await kept.complete(checkpoint, purge=purge)
        log.compact(TOPIC, SHARD)
        pages = {page_key(kept._name, "a", i, n): i for i in range(3) for n in (0, 1)}
        left = [pages[k] for _, k, v in log.records(TOPIC, SHARD) if k in pages and v is not None]
        assert sorted(left) == ([0, 1, 2] if purge else [0, 1, 1, 2])  # one page has changed
        found = await loaded(log)
        assert found is not None
        assert same(found[1], {"a": changed})

    asyncio.run(go())


def test_pages_take_less_room_than_what_is_in_them() -> None:
    async def go() -> None:
        log = MemoryLog()
        even = {"a": np.zeros(3 * ITEMS, np.int64)}
        kept = store(log, "a")
        checkpoint = begun(kept, 1, even, 0)
        written = await kept.write(checkpoint.writing.take(10**9))
        in_log = sum(len(value or b"") for _, _, value in log.records(TOPIC, SHARD))
        assert written == in_log < 3 * PAGE_BYTES / 50
        assert await kept.write([]) == 0
        assert await kept.complete(checkpoint) > 0

    asyncio.run(go())


def test_pages_written_as_they_are_by_earlier_builds_are_read() -> None:
    async def go() -> None:
        log, _ = await history("aaaaaa")
        for offset, key, value in log.records(TOPIC, SHARD):
            if not value:
                continue
            if (key or b"").startswith(b"page/"):
                log.replace(TOPIC, SHARD, offset, bytes(cramjam.lz4.decompress_block(value)))
            else:
                fields = msgspec.msgpack.decode(value)
                del fields["packed"]
                log.replace(TOPIC, SHARD, offset, msgspec.msgpack.encode(fields))
        found = await loaded(log)
        assert found is not None
        assert same(found[1], states()[-1])

    asyncio.run(go())


def test_pages_packed_in_another_way_are_said_to_be() -> None:
    async def go() -> None:
        log, _ = await history("aaaaaa")
        offset, value = max(
            (o, v) for o, k, v in log.records(TOPIC, SHARD) if k == b"manifest/97.a" and v
        )
        fields = msgspec.msgpack.decode(value) | {"packed": "brotli"}
        log.replace(TOPIC, SHARD, offset, msgspec.msgpack.encode(fields))
        with pytest.raises(StateError, match="packed as brotli"):
            await loaded(log)

    asyncio.run(go())


@pytest.mark.parametrize("damaged", [b"", b"\x01", b"\xff\xff\xff\xffmuch", b"\x05\0\0\0abc"])
def test_what_cant_be_unpacked_is_no_page(damaged: bytes) -> None:
    assert Unpacked({b"k": damaged})[b"k"] == b""
    assert Unpacked({b"k": damaged}).get(b"other") is None
