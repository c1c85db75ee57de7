"""What must have come out: the pure core, run once over the input log by the journal's plans.

It reads the journal by its own rules, not with `streams.shard.journal`: a step counts if its owner
is that of the last takeover before it, and if it follows the one before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from schemas.features import FEATURE_NAMES
from schemas.lives import follows
from schemas.topics import TopicNames
from streams.core.config import CoreConfig, Scorer
from streams.core.events.records import SOURCES
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import comparable
from streams.core.step import Outputs, step
from streams.kafka.log import Log
from streams.shard.journal import Entry, Rewritten, Takeover
from tests.shard.memory import SORTING_KEYS, TOTALS, rows_of

__all__ = ["Oracle", "assert_same_state", "replay_journal"]


@dataclass
class Oracle:
    """One shard's whole life, replayed from its first step; or a part of it."""

    state: ShardState
    plans: list[Plan] = field(default_factory=list)
    outputs: list[Outputs] = field(default_factory=list)
    takeovers: int = 0
    ignored: int = 0
    """Steps in the journal that don't count: written by a worker that had lost the shard."""

    @property
    def rows(self) -> dict[str, dict[tuple[Any, ...], dict[str, Any]]]:
        """ClickHouse rows by table and sorting key."""
        found: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = defaultdict(dict)
        for outputs in self.outputs:
            for name, table in outputs.tables.items():
                for row in rows_of(table):
                    key = tuple(row[column] for column in SORTING_KEYS[name])
                    again = key in found[name]
                    assert not again or name in TOTALS, f"two rows of {name} with key {key}"
                    found[name][key] = row
        return dict(found)


async def replay_journal(
    log: Log,
    topics: TopicNames,
    shard: int,
    config: CoreConfig,
    scorer: Callable[[str], Scorer],
    *,
    begins: ShardState | None = None,
    last: int | None = None,
) -> Oracle:
    """Read the whole journal of a shard and run its steps: on an empty state, or those that come
    after the state with which it `begins`; up to step `last`, if that is given."""
    result = Oracle(begins or ShardState(shard, len(FEATURE_NAMES)))
    first_seq = result.state.meta.seq
    first, end = await log.ends(topics.journal, shard)
    assert first == 0, "the journal's beginning is gone: there is nothing to replay from"
    entries = await log.read(topics.journal, shard, first, end)
    owner, plans = "", result.plans
    for value in entries.values:
        entry = msgspec.msgpack.decode(value or b"", type=Entry)
        if isinstance(entry, Takeover):
            owner = entry.owner
            result.takeovers += 1
        elif (
            isinstance(entry, Rewritten)
            or entry.plan.seq <= first_seq
            or (last is not None and entry.plan.seq > last)
        ):
            continue
        elif entry.owner == owner and follows(
            entry.plan.seq, plans[-1].seq if plans else first_seq
        ):
            if plans:
                assert entry.plan.start == plans[-1].stop, "a step does not begin where one ended"
            plans.append(entry.plan)
        else:
            result.ignored += 1
    if plans and begins is None:
        result.state.meta.offsets = list(plans[0].start)
    names = (topics.clickstream, topics.orders)
    inputs = [
        await log.read(name, shard, plans[0].start[s], plans[-1].stop[s]) if plans else None
        for s, name in zip(SOURCES, names, strict=True)
    ]
    for plan in plans:
        records = []
        for s in SOURCES:
            whole = inputs[s]
            assert whole is not None
            cut = np.searchsorted(whole.offsets, (plan.start[s], plan.stop[s]))
            records.append(whole[int(cut[0]) : int(cut[1])])
        result.outputs.append(step(result.state, plan, records, config, scorer(plan.champion)))
    return result


def assert_same_state(ours: ShardState, oracle: ShardState) -> None:
    """Bit for bit, by what a checkpoint would hold."""
    (meta, arrays), (wanted_meta, wanted) = comparable(ours), comparable(oracle)
    assert msgspec.msgpack.decode(meta) == msgspec.msgpack.decode(wanted_meta)
    assert meta == wanted_meta
    assert arrays.keys() == wanted.keys()
    for name, array in arrays.items():
        assert array.dtype == wanted[name].dtype, name
        assert array.tobytes() == wanted[name].tobytes(), name
