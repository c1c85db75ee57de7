"""Keys in partitions that they don't belong to: refused before any step, or dead letters."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from schemas.errors import StateError
from schemas.topics import TopicNames
from streams.core.events.records import Records
from streams.core.hashing import key_pseudonym
from streams.core.partitioning import (
    Partitioner,
    PartitionerName,
    explain_misplaced,
    partitions_of_keys,
)
from streams.shard.inputs import check_keys, partitions_added
from tests.core.driving import T0, Driver, click, config, order
from tests.shard.rig import SHARD, TOPICS, Process, Rig, quick_shards, script

__all__ = ["quick_shards"]

KEYS = [f"P{i}".encode() for i in range(200)]
MURMUR2 = Partitioner("murmur2", 4)


def written_by(name: PartitionerName, partition: int, partitions: int = 4) -> Records:
    """What a producer with that partitioner writes into one partition."""
    of_key = partitions_of_keys(KEYS, name, partitions)
    keys = [key for key, n in zip(KEYS, of_key, strict=True) if n == partition]
    at = np.arange(70, 70 + len(keys), dtype=np.int64)
    return Records.of(at, at, keys, keys)


@pytest.mark.parametrize("name", ["crc32", "fnv1a"])
def test_the_first_misplaced_record_is_named_with_its_place_and_the_likely_producer(
    name: PartitionerName,
) -> None:
    records = written_by(name, 2)
    strays = MURMUR2.misplaced(records, 2)
    with pytest.raises(StateError) as raised:
        check_keys(records, "clicks", 2, MURMUR2)
    said = str(raised.value)
    key = records.keys[strays[0]]
    assert said.startswith(f"clicks/2, offset {70 + strays[0]}: the key (of customer ")
    assert key is not None
    assert key_pseudonym(key) in said
    assert key.decode() not in said.split()
    assert f"{len(strays)} of the {len(records)} records fetched are misplaced" in said
    assert f"{name} puts them there" in said
    for remedy in ("murmur2_random", "TIDELINE_KAFKA_MISPLACED", "TIDELINE_KAFKA_PARTITIONER"):
        assert remedy in said


@pytest.mark.parametrize("name", ["murmur2", "crc32", "fnv1a"])
def test_what_its_own_partitioner_wrote_is_right(name: PartitionerName) -> None:
    for partition in range(4):
        records = written_by(name, partition)
        assert len(records) > 20
        check_keys(records, "clicks", partition, Partitioner(name, 4))


def test_partitions_that_were_added_are_recognised_by_where_keys_went() -> None:
    strays = written_by("murmur2", 1, partitions=6)
    strays = strays[MURMUR2.misplaced(strays, 1)]
    assert explain_misplaced(strays, 1, MURMUR2).startswith("murmur2 of 6 partitions puts them")
    few = strays[np.arange(3)]
    said = explain_misplaced(few, 1, MURMUR2)
    assert "of 6 partitions" not in said
    assert "or partitions were added (`tideline repartition`" in said
    assert "of 6 partitions" in explain_misplaced(strays[np.arange(4)], 1, MURMUR2)


def test_a_partition_beyond_those_that_the_state_has_is_an_error_that_names_the_page() -> None:
    said = str(partitions_added(TopicNames("c", "o", "app"), 5, MURMUR2))
    assert "c and o have a partition 5" in said
    assert "4 partitions" in said
    assert "`tideline repartition`" in said
    assert '"Grow"' in said


def checked(rig: Rig, *, misplaced: str = "refuse") -> Process:
    """A process of the rig that checks keys; the rig's own users are of all partitions."""
    process = rig.process("checking")
    rules = replace(rig.config, partitioner=MURMUR2, misplaced=misplaced)  # type: ignore[arg-type]
    process.shard._s = replace(process.shard._s, config=rules)
    process.shard._intake._s = process.shard._s
    return process


@pytest.mark.usefixtures("quick_shards")
def test_a_shard_stops_before_a_misplaced_record_enters_a_step() -> None:
    async def go() -> None:
        rig = Rig()
        rig.load(script())
        process = checked(rig)
        with pytest.raises(StateError, match=f"/{SHARD}, offset .* belongs to partition"):
            await process.run()
        assert process.shard.position == (0, 0)
        assert rig.log.ends_now(TOPICS.journal, SHARD)[1] == 1  # its takeover alone

    asyncio.run(go())


@pytest.mark.usefixtures("quick_shards")
def test_an_engine_that_is_given_an_added_partition_says_so_and_starts_nothing() -> None:
    async def go() -> None:
        process = Rig().process("")
        engine = process.make_engine()
        rules = replace(process.rig.config, partitioner=Partitioner("murmur2", SHARD))
        engine._services = replace(engine._services, config=rules)
        await engine.assigned([0, SHARD])
        assert isinstance(process.failure, StateError)
        assert engine.shards == []

    asyncio.run(go())


@pytest.mark.parametrize("misplaced", ["dead_letter", "refuse"])
def test_misplaced_records_become_dead_letters_and_the_customers_stay_in_one_shard(
    misplaced: Literal["dead_letter", "refuse"],
) -> None:
    """Four shards see what a murmur2 and a crc32 producer wrote: nobody is in two. A step with such
    records is taken where they are refused, too: in a replay, when the setting was changed."""
    users = [f"P{i}" for i in range(40)]
    by_murmur2 = partitions_of_keys([u.encode() for u in users], "murmur2", 4)
    by_crc32 = partitions_of_keys([u.encode() for u in users], "crc32", 4)
    seen: list[set[str]] = []
    letters = 0
    for shard in range(4):
        driver = Driver(config(partitioner=MURMUR2, misplaced=misplaced))
        driver.state.meta.shard = shard
        orders = [order(u, T0) for u, n in zip(users, by_murmur2, strict=True) if n == shard]
        clicks = [click(u, T0) for u, n in zip(users, by_crc32, strict=True) if n == shard]
        outputs = driver.feed(clicks, orders)
        strays = sum(a == shard != b for a, b in zip(by_crc32, by_murmur2, strict=True))
        assert [d.reason for d in outputs.dead_letters] == ["wrong_partition"] * strays
        assert outputs.counts.dead_letters == strays
        assert outputs.counts.scored == len(clicks) + len(orders) - strays
        letters += strays
        seen.append(set(driver.state.rows_by_user))
    assert letters > 20
    assert sum(map(len, seen)) == len(set.union(*seen)) == len(users)
