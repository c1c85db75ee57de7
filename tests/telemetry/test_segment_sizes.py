"""Sizes of the shop's own segments are metrics, beside what their owners expect."""

from __future__ import annotations

import msgspec

from schemas.definitions import Definitions, Expected
from streams.telemetry.metrics import Metrics
from streams.telemetry.shard_metrics import MetricsMonitor
from tests.core.driving import T0, Driver, config, order
from tests.core.oracle import DAY_MS
from tests.core.test_standing import segment


def size(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"tideline_{name}", labels)


def test_a_segments_size_and_what_is_expected_follow_the_definitions() -> None:
    metrics, driver = Metrics(), Driver(config(min_orders=1))
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))

    def stepped() -> None:
        monitor.stepped(3, driver.outputs[-1], driver.state, 0.1, {})

    big = msgspec.structs.replace(segment("big", "orders > 1"), expect=Expected(size=(1, 9)))
    driver.feed([], [order("u", T0), order("u", T0 + 1), order("v", T0)], clock_ms=T0 + 2)
    driver.define(big, segment("small", "orders == 1"), clock_ms=T0 + 3)
    stepped()
    assert size(metrics, "segment_users", segment="big", shard="3") == 1
    assert size(metrics, "segment_users", segment="small", shard="3") == 1
    assert size(metrics, "segment_expected_users", segment="big", bound="min") == 1
    assert size(metrics, "segment_expected_users", segment="big", bound="max") == 9
    assert size(metrics, "segment_expected_users", segment="small", bound="max") is None
    driver.feed(definitions=Definitions(9, "v9", (segment("small", "orders == 1"),)))
    driver.sweep(T0 + DAY_MS)
    stepped()
    assert size(metrics, "segment_users", segment="big", shard="3") is None
    assert size(metrics, "segment_expected_users", segment="big", bound="max") is None
    metrics.forget_shard(3)
    assert size(metrics, "segment_users", segment="small", shard="3") is None
