"""The histogram of how long records take to be visible, and the times of a batch's stages."""

from __future__ import annotations

import threading

import numpy as np
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streams.core.ages import Ages
from streams.core.ledger import Counts
from streams.core.stages import STAGES
from streams.core.state.shard_state import ShardState
from streams.core.step import Outputs
from streams.telemetry.collectors import TalliedHistogram
from streams.telemetry.metrics import Metrics
from streams.telemetry.shard_metrics import MetricsMonitor

NAME = "tideline_record_visible_seconds"


def test_whole_arrays_are_observed_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    bounds = (0.5, 1.0, 10.0)
    seconds = np.r_[bounds, 0.0, 1e9, rng.exponential(5.0, 500)]
    counts = rng.integers(1, 5, len(seconds))
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallied = TalliedHistogram("x", "help", "step", ("a", "b"), bounds)
    ours.register(tallied)
    tallied.observe("a", seconds, counts)
    plain = Histogram("x", "help", ("step",), registry=theirs, buckets=bounds)
    plain.labels("b")
    for value, count in zip(seconds.tolist(), counts.tolist(), strict=True):
        for _ in range(count):
            plain.labels("a").observe(value)
    for le in ("0.5", "1.0", "10.0", "+Inf"):
        labels = {"step": "a", "le": le}
        assert ours.get_sample_value("x_bucket", labels) == theirs.get_sample_value(
            "x_bucket", labels
        )
    assert ours.get_sample_value("x_count", {"step": "a"}) == counts.sum()
    total = ours.get_sample_value("x_sum", {"step": "a"})
    assert total is not None
    np.testing.assert_allclose(total, float(seconds @ counts))
    assert ours.get_sample_value("x_bucket", {"step": "b", "le": "+Inf"}) == 0
    kinds = [line for line in generate_latest(ours).decode().splitlines() if line[:6] == "# TYPE"]
    assert kinds == ["# TYPE x histogram"]


def test_observations_of_several_threads_all_count() -> None:
    tallied = TalliedHistogram("x", "help", "step", ("a",), (1.0,))

    def observe() -> None:
        for _ in range(2_000):
            tallied.observe("a", np.array([0.5, 2.0]), np.array([1, 2]))

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (family,) = tallied.collect()
    assert {s.labels.get("le"): s.value for s in family.samples if s.name == "x_bucket"} == {
        "1.0": 8_000, "+Inf": 24_000,
    }  # fmt: skip


def test_the_goal_of_ten_seconds_is_an_edge_and_replayed_records_count_apart() -> None:
    metrics = Metrics()
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))

    def below(seconds: str, step: str = "first") -> float | None:
        return metrics.registry.get_sample_value(f"{NAME}_bucket", {"step": step, "le": seconds})

    assert (below("10.0"), below("10.0", "replayed")) == (0, 0)  # a rate needs a beginning
    monitor.stored(0.5, Ages(np.array([10_000, 10_001]), np.array([3, 4])), replayed=False)
    assert (below("7.5"), below("10.0"), below("+Inf")) == (0, 3, 7)
    monitor.stored(0.5, Ages(np.array([60_000]), np.array([5])), replayed=True)
    assert (below("+Inf"), below("30.0", "replayed"), below("60.0", "replayed")) == (7, 0, 5)
    monitor.stored(0.5, None, replayed=False)
    assert below("+Inf") == 7


def test_every_stage_of_a_batch_has_a_time() -> None:
    metrics = Metrics()
    monitor = MetricsMonitor(metrics, ("clicks", "orders"))
    counts = Counts(1, 1, 0, 0, 0, 0, 0)
    spent = {stage: 0.02 * (i + 1) for i, stage in enumerate(STAGES)}
    outputs = Outputs({}, [], [], [], counts, 0)
    monitor.stepped(0, outputs, ShardState(0, 4), 0.3, spent)
    monitor.journalled(0.01)
    monitor.stored(12.0, None, replayed=False)
    sums = {
        sample.labels["stage"]: round(sample.value, 6)
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "tideline_batch_seconds_sum"
    }
    expected: dict[str, float] = {stage: round(seconds, 6) for stage, seconds in spent.items()}
    assert sums == expected | {"journal": 0.01, "send": 12.0}
    assert metrics.registry.get_sample_value("tideline_step_seconds_sum") == 0.3
