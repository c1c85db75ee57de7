"""The rules of Prometheus and OpenTelemetry, held against everything in the registry.

Names: https://prometheus.io/docs/practices/naming. Buckets: OpenTelemetry's semantic conventions
for messaging.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram

from streams.telemetry.collectors import SampledGauge, TalliedHistogram
from streams.telemetry.metrics import LAG_STATUSES, SHARD_STATES, Metrics

OPEN_TELEMETRY = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
OTHER_BUCKETS = {"tideline_checkpoint_seconds": "it may take 50 ms, and is judged in milliseconds"}

UNITS = {"seconds", "bytes", "ratio", "nats", "records", "rows"}
NOT_BASE = {
    "ms", "millis", "milliseconds", "us", "ns", "minutes", "hours", "days", "percent", "percentage",
    "kb", "mb", "kilobytes", "megabytes", "duration",
}  # fmt: skip
UNIT_BEFORE_THE_END = {
    "tideline_consumer_lag_records_per_second": "a unit of two words",
    "tideline_consumer_lag_seconds_unknown": "has no unit: 1 where there are no seconds",
    "tideline_records_accepted": "counts them",
}
# Why each label has few values.
LABELS = {
    "shard": "partitions of the inputs", "partition": "partitions of the watched topics",
    "topic": "topics that are watched", "consumer_group": "groups that are watched",
    "stage": "STAGES", "step": "RECORD_STEPS", "outcome": "OUTCOMES", "share": "SHARES",
    "state": "SHARD_STATES and the like", "status": "LAG_STATUSES, GROUP_STATUSES",
    "reason": "codes of dead letters", "dimension": "value_tier, lifecycle, MAX_SEGMENTS",
    "segment": "MAX_SEGMENTS", "bound": "min, max",
    "audience": "MAX_AUDIENCES", "change": "entered, left",
    "table": "schemas.tables", "error_type": "classes of errors", "version": "one at a time",
    "model": "MODELS", "kind": "DRIFT_KINDS", "decision": "promoted, rejected",
    "result": "sent, failed", "watchdog": "WATCHDOGS", "role": "GROUP_ROLES",
    "destination": "tables of one file, at most 50",
    "page": "PAGES of the console, and five more", "form": "FORMS", "action": "ACTIONS",
}  # fmt: skip


def metrics_of(metrics: Metrics) -> list[tuple[str, Any]]:
    """(name without _total, metric) of all that there are."""
    found = [each for each in vars(metrics).values() if hasattr(each, "describe")]
    return [(next(iter(each.describe())).name, each) for each in found]


def test_every_metric_is_an_attribute_so_that_the_rules_see_it() -> None:
    metrics = Metrics()
    collected = {family.name for family in metrics.registry.collect()}
    assert collected == {name for name, _ in metrics_of(metrics)}


@pytest.mark.parametrize(("name", "metric"), metrics_of(Metrics()))
def test_a_name_has_one_base_unit_at_its_end_and_total_only_on_counters(
    name: str, metric: Any
) -> None:
    assert re.fullmatch(r"tideline(_[a-z]+)+", name)
    words = name.split("_")
    assert not NOT_BASE & set(words), "base units only"
    reserved = {"total", "count", "sum", "bucket", "created"}
    assert words[-1] not in reserved, "the client adds these"
    if name not in UNIT_BEFORE_THE_END:
        assert not UNITS & set(words[:-1]), "the unit stands last"
    if isinstance(metric, Histogram | TalliedHistogram):
        assert words[-1] == "seconds"
    family = next(iter(metric.describe()))
    expected: dict[Any, str] = {
        Counter: "counter", Gauge: "gauge", Histogram: "histogram", SampledGauge: "gauge",
        TalliedHistogram: "histogram",
    }  # fmt: skip
    assert family.type == expected[type(metric)]
    if "timestamp" in words:
        assert words[-2:] == ["timestamp", "seconds"]
        assert "Unix time" in family.documentation
    if words[-1] == "ratio":
        assert "0 to 1" in family.documentation


@pytest.mark.parametrize(("name", "metric"), metrics_of(Metrics()))
def test_labels_have_few_values_and_none_is_an_id(name: str, metric: Any) -> None:
    assert set(metric._labelnames) <= LABELS.keys(), f"{name}: why does it have few values?"


def test_no_label_is_there_without_a_metric() -> None:
    used = {label for _, metric in metrics_of(Metrics()) for label in metric._labelnames}
    assert used == LABELS.keys()


def test_times_have_the_buckets_of_open_telemetry() -> None:
    metrics = Metrics()
    metrics.batch_seconds.labels("decode")
    metrics.sink_insert_seconds.labels("alerts")
    metrics.delivery_try_seconds.labels("crm")
    found = 0
    for family in metrics.registry.collect():
        if family.type == "histogram" and family.name not in OTHER_BUCKETS:
            edges = {float(s.labels["le"]) for s in family.samples if "le" in s.labels}
            assert edges >= set(OPEN_TELEMETRY), family.name
            found += 1
    assert found >= 5


def test_the_gauges_of_a_shard_go_away_with_it_and_its_counters_stay() -> None:
    """Counters are added up over workers and time, so what another worker owns now still counts."""
    metrics = Metrics()
    sampled = SampledGauge, TalliedHistogram  # have no memory
    mine = [
        (name, metric)
        for name, metric in metrics_of(metrics)
        if {"shard", "partition"} & set(metric._labelnames) and not isinstance(metric, sampled)
    ]
    for number in ("7", "77"):
        for _, metric in mine:
            labels = {
                label: number if label in ("shard", "partition") else "x"
                for label in metric._labelnames
            }
            child = metric.labels(**labels)
            child.inc() if isinstance(metric, Counter) else child.set(1)
    metrics.forget_shard(7)
    left: dict[str, set[str]] = {name: set() for name, _ in mine}
    for family in metrics.registry.collect():
        for sample in family.samples:
            if family.name in left:
                left[family.name].add(sample.labels.get("shard") or sample.labels["partition"])
    for name, metric in mine:
        assert left[name] == ({"7", "77"} if isinstance(metric, Counter) else {"77"}), name


def test_a_shard_is_in_one_state() -> None:
    metrics = Metrics()
    sample = metrics.registry.get_sample_value
    metrics.set_shard_state(2, "recovering")
    metrics.set_shard_state(2, "running")
    states = {s: sample("tideline_shard_state", {"shard": "2", "state": s}) for s in SHARD_STATES}
    assert states == {state: float(state == "running") for state in SHARD_STATES}


def test_the_help_of_a_status_names_its_values() -> None:
    (family,) = Metrics().consumer_status.describe()
    assert all(status in family.documentation for status in LAG_STATUSES)
