"""Budget, quiet hours and contacts: after a crash at every call they are those of a clean run."""

from __future__ import annotations

import asyncio
import itertools
import json
from functools import cache
from typing import Any

import pytest

from schemas.definitions import AlertRules, ContactCap, Definitions, SegmentDefinition
from streams.replay.records import CLICKSTREAM
from tests.shard.memory import Faults, MemoryLog, NoFaults
from tests.shard.oracle import assert_same_state
from tests.shard.rig import (
    DAY_MS,
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
from tests.shard.sweep import STRIDES, sweep

__all__ = ["quick_shards"]

pytestmark = [pytest.mark.usefixtures("quick_shards"), pytest.mark.timeout(600)]

RULES = Definitions(
    1, "v1", (SegmentDefinition("complained", "support_24h > 0"),),
    alerts=AlertRules(per_day=1, quiet=(60, 300), utc_offsets=((0, 120),)),
    caps=ContactCap(1, DAY_MS), suppress="segment.complained",
)  # fmt: skip


@cache
def log_with_contacts() -> MemoryLog:
    """The script's records, and after every fifth click a contact with one of the users."""
    rig, clicks = Rig(), itertools.count(1)
    for record in itertools.chain.from_iterable(script()):
        kind = record.topic_kind
        topic = TOPICS.clickstream if kind == CLICKSTREAM else TOPICS.orders
        rig.log.put(topic, SHARD, record.key, record.value, record.timestamp_ms)
        if kind == CLICKSTREAM and not (n := next(clicks)) % 5:
            user, at_ms = f"u{n % 6}", record.timestamp_ms
            said = {"type": "contacted", "event_id": f"k{n}", "user_id": user, "ts": at_ms}
            rig.log.put(TOPICS.clickstream, SHARD, user.encode(), json.dumps(said).encode(), at_ms)
    return rig.log


def loaded() -> Rig:
    return Rig(log_with_contacts().copy())


def process(rig: Rig, owner: str, faults: Faults | None = None) -> Process:
    found = Process(rig, owner, faults or NoFaults(), FETCH_ALL)
    found.definitions = RULES
    found.max_records = 12
    return found


async def clean_run() -> tuple[Rig, Process]:
    rig = loaded()
    first = process(rig, "clean")
    await first.run()
    return rig, first


def test_a_clean_run_meets_every_rule() -> None:
    async def go() -> None:
        rig, first = await clean_run()
        oracle = await rig.check(first.shard)
        assert {"contacts", "alert_budget", "alerts"} <= set(oracle.rows)
        opened = [a for out in oracle.outputs for a in out.alerts if a.state == "open"]
        assert opened
        assert sum(out.postponed for out in oracle.outputs)
        days: list[dict[str, Any]] = list(oracle.rows["alert_budget"].values())
        assert max(row["opened"] for row in days) == 1
        assert sum(row["candidates"] for row in days) > sum(row["opened"] for row in days)
        assert oracle.state.meta.definitions == RULES

    asyncio.run(go())


@STRIDES
def test_a_crash_at_every_call_opens_the_alerts_of_a_clean_run(stride: int) -> None:
    clean, first = asyncio.run(clean_run())

    async def attempt(n: int) -> bool:
        rig, crash = loaded(), CrashAt(n)
        try:
            await process(rig, "first", crash).run()
        except Crashed:
            second = process(rig, "second")
            await second.run()
            assert rig.sink.rows == clean.sink.rows, crash.where
            assert rig.sink.changed == []
            assert_same_state(second.shard._state, first.shard._state)
            return True
        return False

    assert sweep(attempt, stride) > 60
