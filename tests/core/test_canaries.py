"""Canaries go through a step, and leave no trace but their own rows and their count."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from schemas.canary import Canary
from schemas.features import FEATURE_NAMES
from schemas.lives import first_of, life_beginning
from schemas.messages import JournalledSnapshot
from streams.core.canaries import NONE, set_apart
from streams.core.events.decode import decode, decode_ours
from streams.core.events.records import CLICKSTREAM, ORDERS
from streams.core.partitioning import Partitioner
from streams.core.plan import Plan
from streams.core.state.shard_state import ShardState
from streams.core.state.snapshot import digest
from streams.core.step import Outputs, step
from streams.telemetry.metrics import OUTCOMES, Metrics
from streams.telemetry.shard_metrics import MetricsMonitor
from tests.core.driving import (
    T0,
    Driver,
    SilenceScorer,
    click,
    config,
    encode,
    order,
    record,
    table_rows,
    to_records,
)
from tests.core.oracle import DAY_MS

Row = tuple[bytes | None, bytes | None, int]
KEY = "tideline-canary-4"
RULES = config().decode
DAYS = 45


def canary(at_ms: int, key: str = KEY, **fields: Any) -> Row:
    value = {"kind": "canary", "user_id": KEY, "sent_at_ms": at_ms, "v": 1, **fields}
    return key.encode(), json.dumps(value).encode(), at_ms


def steps(*, canaries: bool) -> tuple[ShardState, list[Outputs]]:
    """45 days of a shard, with canaries among the clicks, or with holes where they were."""
    state, outputs, offsets = ShardState(3, len(FEATURE_NAMES)), [], (0, 0)
    rules = config(sample_share=1.0, lateness_ms=DAY_MS, min_orders=1)
    for day in range(DAYS):
        now_ms = T0 + day * DAY_MS
        clicks = [record(click(f"u{n}", now_ms - n, event_id=f"c{day}-{n}")) for n in range(3)]
        late = record(click("late", now_ms - 30 * DAY_MS, event_id=f"l{day}"), now_ms)
        mixed = [clicks[0], canary(now_ms + 5_000), *clicks[1:], canary(now_ms), late,
                 (b"ann", b"no event", now_ms)]  # fmt: skip
        orders = [
            record(order(user, now_ms, event_id=f"o{day}{user}", order_id=f"o{day}{user}"))
            for user in ("u1", "silent")
            if day < 3
        ]
        kept = np.array([at for at in range(len(mixed)) if canaries or at not in (1, 4)])
        stop = (offsets[0] + len(mixed), offsets[1] + len(orders))
        plan = Plan(
            seq=state.meta.seq + 1 if day else first_of(life_beginning(T0)),
            start=offsets, stop=stop, clock_ms=now_ms, sweep_rows=state.sweep_places,
            records=(len(kept), len(orders)),
        )  # fmt: skip
        records = to_records(mixed, offsets[0])[kept], to_records(orders, offsets[1])
        outputs.append(step(state, plan, records, rules, SilenceScorer()))
        offsets = stop
    return state, outputs


def test_state_and_all_tables_but_two_are_the_same_with_and_without_canaries() -> None:
    (state, ours), (plain, theirs) = steps(canaries=True), steps(canaries=False)
    assert digest(state) == digest(plain)
    tables = {name for outputs in theirs for name in outputs.tables}
    assert {"alerts", "examples", "segment_changes", "dead_letters", "score_samples"} <= tables
    for with_them, without in zip(ours, theirs, strict=True):
        batch = with_them.tables["batches"]
        assert (batch["accepted"].item(), batch["canaries"].item()) == (7 + _orders(without), 2)
        assert "canaries" not in without.tables
        assert encode(_business(with_them)) == encode(_business(without))


def _orders(outputs: Outputs) -> int:
    batch = outputs.tables["batches"]
    return int(batch["orders_to"].item() - batch["orders_from"].item())


def _business(outputs: Outputs) -> Outputs:
    """What is left without the canaries' rows and their count."""
    batch = outputs.tables["batches"]
    own = {
        "accepted": batch["accepted"] - batch["canaries"], "canaries": 0 * batch["canaries"],
    }  # fmt: skip
    counts = replace(
        outputs.counts, accepted=outputs.counts.accepted - outputs.counts.canaries, canaries=0
    )
    tables = {name: rows for name, rows in outputs.tables.items() if name != "canaries"}
    # The record that was applied last is a fact about the topic, whatever it was.
    return replace(
        outputs, tables={**tables, "batches": {**batch, **own}}, counts=counts, canaries=NONE,
        applied_ms=(0, 0),
    )  # fmt: skip


def test_a_row_says_where_when_and_what_champion_and_learner_make_of_one_customer() -> None:
    driver = Driver(config())
    out = driver.feed_rows([canary(T0 + 7), record(click("u", T0))], [], clock_ms=T0 + 9)
    (row,) = table_rows(out.tables["canaries"])
    assert row == {
        "shard": 3, "offset": 0, "recorded_at": T0 + 7, "seq": driver.state.meta.seq,
        "champion_version": "fake-1", "p_churn": np.float32(0.5),
    }  # fmt: skip
    assert (out.counts.accepted, out.counts.scored, out.counts.canaries) == (2, 1, 1)
    assert out.produced_ms == T0
    learner = JournalledSnapshot(
        version=1, champion_version="fake-1", features=[], labels=1, blend_weight=1.0,
        intercept=0.25, logit_weight=1.0, weights=[], mean=[], scale=[],
    )  # fmt: skip
    learned = driver.feed_rows([canary(T0 + 8)], [], clock_ms=T0 + 9, learner=learner)
    assert table_rows(learned.tables["canaries"])[0]["p_churn"] == np.float32(0.75)
    assert learned.tables.keys() == {"canaries", "batches"}
    assert driver.state.known == 1


def test_a_champion_that_gives_no_number_gives_a_row_without_one() -> None:
    class Silent(SilenceScorer):
        def score(self, x: Any, learner: Any) -> Any:
            found = super().score(x, learner)
            return replace(found, p_churn=found.p_churn * np.float32(math.nan))

    driver = Driver(config(), Silent())
    out = driver.feed_rows([canary(T0)], [], clock_ms=T0)
    assert np.isnan(out.tables["canaries"]["p_churn"]).all()
    assert out.refused == 0


@pytest.mark.parametrize(
    "row",
    [
        canary(T0, "ann"),  # a key that shops may have
        canary(T0, KEY + "1"),  # another key than the value's
        canary(T0, kind="other"),
        canary(T0, v=2),
        canary(T0, sent_at_ms="now"),
        (KEY.encode(), b"\xff", T0),
        (KEY.encode(), b"[" * 5_000, T0),
    ],
)
def test_what_only_looks_like_one_becomes_a_dead_letter(row: Row) -> None:
    out = Driver(config()).feed_rows([row], [], clock_ms=T0)
    assert (out.counts.dead_letters, out.counts.canaries) == (1, 0)


def test_an_order_is_none_and_an_event_stays_an_event_whatever_else_is_in_it() -> None:
    driver = Driver(config())
    out = driver.feed_rows([], [canary(T0)], clock_ms=T0)
    assert (out.counts.dead_letters, out.counts.canaries) == (1, 0)
    out = driver.feed([click(KEY, T0, kind="canary", sent_at_ms=T0)], clock_ms=T0)
    assert (out.counts.scored, out.counts.canaries) == (1, 0)


def test_one_in_another_partition_is_misplaced_like_any_record() -> None:
    where = Partitioner("murmur2", 8)
    records = to_records([canary(T0)])
    home = int(where.of(records)[0])
    for partition in range(8):
        found = decode_ours(records, CLICKSTREAM, RULES, T0, partition, where)
        _, canaries = set_apart(found)
        assert len(canaries) == (partition == home)


def test_without_canaries_nothing_is_copied() -> None:
    events = decode(to_records([record(click("u", T0)), (None, b"", T0)]), CLICKSTREAM, RULES)
    assert set_apart(events)[0] is events
    assert not len(set_apart(decode(to_records([canary(T0)]), ORDERS, RULES))[1])


def test_the_monitors_record_is_one() -> None:
    value = msgspec.json.encode(Canary("canary", KEY, T0))
    out = Driver(config()).feed_rows([(KEY.encode(), value, T0)], [], clock_ms=T0)
    assert out.counts.canaries == 1


def test_metrics_count_them_apart_and_keep_them_out_of_shares() -> None:
    metrics = Metrics()
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))
    driver = Driver(config())
    rows = [canary(T0 + n) for n in range(99)] + [(b"ann", b"no event", T0)]
    monitor.stepped(3, driver.feed_rows(rows, [], clock_ms=T0), driver.state, 0.1, {})
    value = metrics.registry.get_sample_value
    counted = {
        outcome: value("tideline_events_total", {"shard": "3", "outcome": outcome})
        for outcome in OUTCOMES
    }
    assert counted == dict.fromkeys(OUTCOMES, 0.0) | {"canary": 99.0, "dead_letter": 1.0}
    assert value("tideline_records_accepted_total", {"shard": "3"}) == 100
    shares = {"shard": "3", "share": "dead_letters"}
    assert value("tideline_recent_share_ratio", shares) == 1.0
