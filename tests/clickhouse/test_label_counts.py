"""What the trainer asks before it does anything: labels by day and shard, and the newest drift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from clickhouse_driver import Client

from schemas.errors import SinkRefused
from streams.clickhouse.client import ClickHouseTarget
from streams.clickhouse.label_counts import LabelCounts, read_label_counts
from streams.core.features import DAY_MS

pytestmark = pytest.mark.clickhouse

DAY = 19_000
Put = Callable[..., None]


def matured(at_ms: int, **values: Any) -> dict[str, Any]:
    found = {"user_id": "ann", "matured_at": at_ms, "horizon_days": 28, "lifetime_orders": 2}
    return found | values


def test_labels_are_counted_by_the_day_that_they_complete(
    target: ClickHouseTarget, client: Client, put: Put
) -> None:
    midnight = DAY * DAY_MS
    put(
        "examples",
        matured(midnight, asked_at=1),
        matured(midnight + 1, asked_at=2, shard=1),
        matured(midnight + DAY_MS, asked_at=3, shard=1),
        matured(midnight + 9 * DAY_MS, asked_at=4, horizon_days=14),
        matured(midnight, asked_at=5, lifetime_orders=1),  # no customer
    )
    client.execute("SYSTEM START MERGES examples")
    client.execute("OPTIMIZE TABLE examples FINAL")
    found = read_label_counts(target, 28, 2)
    assert found.matured == {DAY - 1: 1, DAY: 2}
    assert found.newest_ms == {0: midnight, 1: midnight + DAY_MS}


def test_only_drift_that_means_another_champion_counts(target: ClickHouseTarget, put: Put) -> None:
    assert read_label_counts(target, 28, 2) == LabelCounts({}, {}, 0)
    put("model_drift", {"drift_id": "a", "kind": "feature", "direction": "up", "detected_at": 9})
    put("model_drift", {"drift_id": "b", "kind": "loss", "direction": "down", "detected_at": 8})
    assert read_label_counts(target, 28, 2).drift_ms == 0
    put("model_drift", {"drift_id": "c", "kind": "rate", "direction": "down", "detected_at": 5})
    put("model_drift", {"drift_id": "d", "kind": "loss", "direction": "up", "detected_at": 7})
    assert read_label_counts(target, 28, 2).drift_ms == 7


def test_a_database_without_tables_names_the_fix(empty_target: ClickHouseTarget) -> None:
    with pytest.raises(SinkRefused, match="tideline migrate"):
        read_label_counts(empty_target, 28, 2)
