"""Judges an application after a repartition: all of its steps, on the old and the new topics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from models.registry import ScorerStore, artifact_place
from schemas.features import FEATURE_NAMES
from streams.core.events.records import SOURCES, Records
from streams.core.partitioning import Partitioner
from streams.core.state import snapshot
from streams.core.state.shard_state import ShardState
from streams.core.state.split import split
from streams.kafka.access import kafka_access
from streams.kafka.log import KafkaLog, Log
from streams.settings import Settings
from streams.shard.checkpoints import CheckpointStore
from streams.shard.config import core_config
from tests.awaiting import awaited
from tests.faults.drill import Drill
from tests.faults.plain import Plain, differences_of_states, plain_run
from tests.integration.verdict import compare_views
from tests.shard.oracle import Oracle, assert_same_state, replay_journal

__all__ = ["judge_moved"]


@dataclass
class _Moved:
    """Both sides of the comparison."""

    parents: list[Oracle] = field(default_factory=list)
    children: list[Oracle] = field(default_factory=list)
    inputs: list[tuple[Records, Records]] = field(default_factory=list)
    """For each new shard, all records of its customers: those that were read from the old topics,
    then those in the new topics."""
    read: int = 0
    """How many records were read from both."""


def judge_moved(fault: Drill, before: Settings) -> int:
    """As `Drill.judge`, for shards that began on the topics of `before`. Returns how many records
    were copied more than once.

    1. The state that the next owner would load equals a replay: of the journal's steps on the old
       topics, split, and of those on the new topics, bit for bit.
    2. Each table holds exactly the rows of all these steps.
    3. The views hold one row each, and the ledger adds up.
    4. Values that may not depend on batches or shards equal those of a plain run over all records
       of each shard's customers.
    """
    world, after = fault.world, fault.world.settings
    moved = awaited(_collected(before, after))
    verdict = world.compare(dict(enumerate([*moved.parents, *moved.children])))
    compare_views(world.sql, verdict, world.without_views)
    repeats = moved.read - fault.total
    assert repeats >= 0, f"{-repeats} records were never read"
    fault.check_ledger(verdict, repeats)
    horizon_days = _scorers(after).get("").horizon_days
    plain_ledger: Counter[str] = Counter()
    for q, inputs in enumerate(moved.inputs):
        plain = plain_run(q, inputs, core_config(after), horizon_days)
        plain_ledger += plain.ledger
        found = differences_of_states(plain.state, moved.children[q].state)
        verdict.problems += [f"shard {q} and a plain run differ: {what}" for what in found]
    journalled = Plain(moved.children[0].state)
    for oracle in (*moved.parents, *moved.children):
        for outputs in oracle.outputs:
            journalled.add(outputs)
    if plain_ledger != journalled.ledger:
        verdict.problems.append(f"ledger: {plain_ledger} plain, {journalled.ledger} journalled")
    fault.result.lost, fault.result.doubled = verdict.lost, verdict.doubled
    verdict.check()
    return repeats


def _scorers(settings: Settings) -> ScorerStore:
    return ScorerStore(artifact_place(settings.model.artifact), settings.stream.currency)


async def _collected(before: Settings, after: Settings) -> _Moved:
    log = KafkaLog(kafka_access(after))
    await log.start()
    scorers, old, new = _scorers(after), before.topic_names, after.topic_names
    assert after.kafka.partitioner != "unchecked"
    to = Partitioner(after.kafka.partitioner, after.kafka.partitions)
    n, moved = before.kafka.partitions, _Moved()
    try:
        for p in range(n):
            stored = await _stored(log, after, p)
            parent = await replay_journal(
                log, old, p, core_config(before), scorers.get, last=stored.meta.inputs_since
            )
            parent.state.meta.partitions = n  # also where it never took a step
            moved.parents.append(parent)
        for q in range(to.partitions):
            begin = [(await log.ends(topic, q))[0] for topic in (new.clickstream, new.orders)]
            parent_state = moved.parents[q % n].state
            child = split(parent_state, q, to, (begin[0], begin[1]))
            oracle = await replay_journal(
                log, new, q, core_config(after), scorers.get, begins=child
            )
            assert_same_state(await _stored(log, after, q), oracle.state)
            moved.children.append(oracle)
            moved.inputs.append(await _inputs(log, before, after, q, parent_state, to))
        moved.read = sum(len(records) for both in moved.inputs for records in both)
    finally:
        await log.stop()
    return moved


async def _stored(log: Log, settings: Settings, shard: int) -> ShardState:
    store = CheckpointStore(log, settings.topic_names.checkpoints, shard, "reader")
    stored = await store.load()
    assert stored is not None
    return snapshot.load(stored.meta, stored.arrays, len(FEATURE_NAMES))


async def _inputs(
    log: Log, before: Settings, after: Settings, q: int, parent: ShardState, to: Partitioner
) -> tuple[Records, Records]:
    found = []
    topics = [(s.topic_names.clickstream, s.topic_names.orders) for s in (before, after)]
    for source in SOURCES:
        p = parent.meta.shard
        first, _ = await log.ends(topics[0][source], p)
        old = await log.read(topics[0][source], p, first, parent.meta.offsets[source])
        at = to.of(old)
        old = old[np.flatnonzero((at == q) | ((at < 0) & (p == q)))]
        new = await log.read(topics[1][source], q, *(await log.ends(topics[1][source], q)))
        rows = [
            (int(t), k, v)
            for part in (old, new)
            for t, k, v in zip(part.timestamps_ms, part.keys, part.values, strict=True)
        ]
        found.append(
            Records.of(
                np.arange(len(rows), dtype=np.int64),
                np.array([t for t, _, _ in rows], np.int64),
                [k for _, k, _ in rows],
                [v for _, _, v in rows],
            )
        )
    return found[0], found[1]
