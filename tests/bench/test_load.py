"""The history gives every user enough data; the sender schedules what it says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.bench import latency
from tests.bench.load import DAY_MS, UNIFORM, ZIPF, columns
from tests.bench.sender import TICK_SECONDS, Sending, _events, due_seconds, probe_key

NOW_MS = 1_795_600_000_000


def test_everybody_ordered_three_times_before_the_load_begins() -> None:
    small = replace(ZIPF, users=500)
    history = [r for block in small.history(NOW_MS) for r in block]
    orders = [json.loads(record.value) for record in history]
    assert set(Counter(o["user_id"] for o in orders).values()) == {3}
    assert {o["type"] for o in orders} == {"placed"}
    assert len({o["event_id"] for o in orders}) == len(orders)
    load = [record for block in small.source(1_000, NOW_MS) for record in block]
    assert max(r.timestamp_ms for r in history) <= min(r.timestamp_ms for r in load) - DAY_MS / 2
    assert {r.key for r in load} <= {r.key for r in history}


def test_one_shape_is_skewed_and_the_other_is_not() -> None:
    def busiest(shape: object) -> float:
        records = [r for block in shape.source(20_000, NOW_MS) for r in block]  # type: ignore[attr-defined]
        return Counter(r.key for r in records).most_common(1)[0][1] / len(records)

    assert busiest(ZIPF) > 0.05
    assert busiest(UNIFORM) < 0.001


def test_columns_are_the_block_s_records_from_the_given_offsets() -> None:
    (block,) = replace(UNIFORM, users=10).source(200, NOW_MS)
    clicks, orders = columns(block, (7, 3))
    assert len(clicks) + len(orders) == 200
    assert clicks.offsets[0] == 7
    assert orders.offsets[0] == 3
    assert sorted(v or b"" for v in (*clicks.values, *orders.values)) == sorted(
        r.value for r in block
    )


def sending() -> Sending:
    return Sending("", "c", "o", 4, ZIPF.name, 3, 5_000.0, 2.0, 50.0, 100)


def test_events_are_due_evenly_and_probes_among_them() -> None:
    events = _events(sending())
    due = np.array([at for at, _ in events])
    assert len(events) == 5_000 * 2 + 100
    assert (np.diff(due) >= 0).all()
    per_second = np.bincount(due.astype(int))
    assert abs(int(per_second[0]) - 5_050) <= 1
    probes = [r for _, r in events if r.key and r.key.startswith(b"probe-")]
    assert [r.key for r in probes] == [probe_key(100 + i) for i in range(100)]
    assert due_seconds(sending(), 199) < 2.0
    assert TICK_SECONDS < 0.05


def test_latency_counts_from_when_a_probe_was_due() -> None:
    due = {"a": 10.0, "b": 11.0, "warm": 1.0}
    found = latency.summary(1_000.0, due, {"a": 10.1, "b": 13.0}, 5.0, {"latest_seconds": 0.0})
    assert found["probes"] == 2
    assert found["p50_ms"] == pytest.approx(100.0)
    assert found["p99_ms"] == pytest.approx(2_000.0)


_AT = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


def _inserted(table: str, seconds_after: float, took: float) -> str:
    at = (_AT + timedelta(seconds=seconds_after)).isoformat(timespec="milliseconds")
    at = at.replace("+00:00", "Z")
    return json.dumps({"time": at, "message": "inserted", "table": table, "seconds": took})


def test_an_alert_is_visible_when_its_insert_was_acknowledged() -> None:
    log = [
        _inserted("alerts", 0.100, 0.020),
        "a line that is no JSON",
        _inserted("score_history", 0.115, 0.500),
        _inserted("alerts", 0.190, 0.040),
    ]
    at = _AT.timestamp()
    rows = [("ann", at + 0.085), ("bob", at + 0.100), ("eve", at + 0.149), ("joe", at + 0.190)]
    found = latency.visible(log, rows)
    assert found == pytest.approx(
        {"ann": at + 0.1, "bob": at + 0.1, "eve": at + 0.19, "joe": at + 0.19}
    )


def test_a_row_whose_insert_is_not_acknowledged_yet_is_not_visible() -> None:
    """It is looked for again, and in the end counts as never seen."""
    log = [_inserted("alerts", 0.100, 0.020)]
    assert latency.visible(log, [("ann", _AT.timestamp() + 0.25)]) == {}
    assert latency.visible([], [("ann", _AT.timestamp())]) == {}


@pytest.mark.parametrize("seconds_after", [0.07, 0.12])
def test_a_row_of_no_insert_in_the_log_is_not_guessed_at(seconds_after: float) -> None:
    log = [_inserted("alerts", 0.100, 0.020), _inserted("alerts", 0.190, 0.040)]
    with pytest.raises(ValueError, match="no insert of alerts"):
        latency.visible(log, [("ann", _AT.timestamp() + seconds_after)])


def test_a_probe_that_is_never_seen_counts_as_late_for_ever() -> None:
    found = latency.summary(1.0, {"a": 1.0, "b": 1.0}, {"a": 1.2}, 0.0, {"latest_seconds": 0.0})
    assert found["unseen"] == 1
    assert found["p99_ms"] is None
