"""What the shares of a running shard become: gauges, and a line in the log when they change."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from streams.core.health import Limit, Limits
from streams.core.ledger import Counts
from streams.core.state.shard_state import ShardState
from streams.core.step import Outputs
from streams.telemetry import shard_metrics
from streams.telemetry.metrics import Metrics
from streams.telemetry.shard_metrics import MetricsMonitor


def test_a_share_that_gets_worse_is_shown_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(shard_metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    caplog.set_level(logging.INFO)
    metrics = Metrics()
    limits = Limits(Limit(0.1, 0.5), Limit(0.1, 0.5))
    monitor, state = MetricsMonitor(metrics, ("clicks", "orders"), limits), ShardState(2, 4)

    def step(accepted: int, late: int) -> None:
        counts = Counts(accepted, accepted - late, 0, late, 0, 0, 0)
        monitor.stepped(2, Outputs({}, [], [], [], counts, 0), state, 0.01, {})

    def shown(name: str, share: str = "late") -> float | None:
        labels = {"shard": "2", "share": share}
        return metrics.registry.get_sample_value(f"tideline_{name}", labels)

    step(1_000, 10)
    assert (shown("recent_share_ratio"), shown("health_state")) == (0.01, 0.0)
    assert not caplog.records
    step(1_000, 300)
    step(1_000, 300)
    assert shown("recent_share_ratio") == pytest.approx(610 / 3_000)
    assert (shown("health_state"), shown("health_state", "dead_letters")) == (1.0, 0.0)
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("shard 2, late is warn: 310 of 2,000 records of the last hour")
    assert "TIDELINE_STREAM_LATENESS_DAYS" in line
    for late in (0, 900, 0, 900):  # around the limit, within the minute
        step(3_000, late)
    assert len(caplog.records) == 1
    now[0] += 3_600.0
    step(1_000, 0)  # an hour later nobody is late any more
    assert (shown("recent_share_ratio"), shown("health_state")) == (0.0, 0.0)
    assert caplog.records[-1].levelno == logging.INFO
    monitor.forget(2)
    assert shown("health_state") is None


def test_the_time_of_the_last_applied_record_is_shown_until_another_worker_has_the_shard() -> None:
    metrics, state = Metrics(), ShardState(2, 4)
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))

    def step(clicks_ms: int, orders_ms: int) -> list[float | None]:
        counts = Counts(1, 1, 0, 0, 0, 0, 0)
        outputs = Outputs({}, [], [], [], counts, 0, applied_ms=(clicks_ms, orders_ms))
        monitor.stepped(2, outputs, state, 0.01, {})
        return shown()

    def shown() -> list[float | None]:
        name = "tideline_last_applied_record_timestamp_seconds"
        return [
            metrics.registry.get_sample_value(name, {"topic": topic, "partition": "2"})
            for topic in ("clicks", "orders")
        ]

    assert step(0, 5_000) == [None, 5.0]
    assert step(7_500, 0) == [7.5, 5.0]
    monitor.forget(2)
    assert shown() == [None, None]


def test_a_recovery_has_a_share_until_it_is_done() -> None:
    metrics = Metrics()
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))
    shown = metrics.registry.get_sample_value
    monitor.state(2, "recovering")
    assert monitor.recoveries == {}  # it reads its checkpoint
    for steps, records in ((4, 1_000), (3, 400), (2, 250)):
        monitor.recovering(2, steps, records)
    assert monitor.recoveries[2].share_done == 0.75
    assert shown("tideline_recovery_remaining_records", {"shard": "2"}) == 250
    assert shown("tideline_recovery_batches_remaining", {"shard": "2"}) == 2
    monitor.state(2, "running")
    assert (monitor.states, monitor.recoveries) == ({2: "running"}, {})
    monitor.forget(2)
    assert monitor.states == {}
