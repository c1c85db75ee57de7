"""Drift alarms: none on steady customers, soon after a change, and the same after a restart."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.champion import Champion
from models.drift import LOSS, RATE, REFERENCE, DriftMonitor, DriftState, monitored
from models.learner import OnlineLearner
from schemas.features import FEATURE_NAMES
from schemas.messages import Drift, Example
from tests.models.synthetic import at, churn_logit, example, rows

HOUR_MS = 3_600_000


def labels(champion: Champion, n: int, seed: int, *, shift: float = 0.0) -> list[Example]:
    """Matured labels, an hour apart; `shift` moves everybody's true log-odds of churn."""
    x = rows(n, seed)
    odds = churn_logit(x) + shift
    churned = np.random.default_rng(seed + 1).random(n) < 1 / (1 + np.exp(-odds))
    p = champion.score(x)[0]
    return [
        example(x[i], bool(churned[i]), ordinal=i + 1, champion_version=champion.version,
                p_champion=float(p[i]))
        for i in range(n)
    ]  # fmt: skip


def losses(examples: list[Example]) -> NDArray[np.float64]:
    p = np.array([e.p_champion for e in examples])
    churned = np.array([e.churned for e in examples])
    return -np.log(np.where(churned, p, 1 - p))


def watch(
    monitor: DriftMonitor, x: NDArray[np.float32], examples: list[Example], first: int = 0
) -> list[Drift]:
    found = []
    for i, (row, one) in enumerate(zip(x, examples, strict=True), first):
        found += monitor.add(row, one.p_champion, one.churned, i * HOUR_MS, i)
    return found


def test_it_watches_one_feature_of_a_concept_and_none_that_only_grows(champion: Champion) -> None:
    names = [FEATURE_NAMES[f] for f in monitored(champion.manifest)]
    assert 1 <= len(names) <= 12
    assert not {"tenure_days", "days_since_first_order", "lifetime_orders"} & set(names)
    assert "days_since_order" in names


def test_steady_customers_raise_no_alarm(champion: Champion) -> None:
    examples = labels(champion, 20_000, 50)
    assert watch(DriftMonitor(champion.manifest), rows(20_000, 50), examples) == []


def test_a_change_of_behaviour_is_an_alarm_about_the_loss(champion: Champion) -> None:
    monitor = DriftMonitor(champion.manifest)
    before, after = labels(champion, 2_000, 51), labels(champion, 2_000, 52, shift=2.5)
    assert watch(monitor, rows(2_000, 51), before) == []
    found = watch(monitor, rows(2_000, 52), after, 2_000)

    first = next(d for d in found if d.stream == LOSS)
    assert (first.stream, first.kind, first.direction) == (LOSS, "loss", "up")
    assert 2_000 < first.version < 2_500
    assert first.mean_before == pytest.approx(losses(before).mean(), rel=0.1)
    assert first.mean_since > first.mean_before
    assert abs(first.since_ms / HOUR_MS - 2_000) < 250  # the mean that it is measured by moves too
    assert "train a challenger" in first.reason
    rate = next(d for d in found if d.stream == RATE)
    assert (rate.kind, rate.direction) == ("rate", "up")
    assert rate.mean_since > rate.mean_before + 0.1
    assert rate.reason.startswith("Customers leave more often than the champion says: by +")


def test_customers_who_look_different_are_an_alarm_about_the_feature(champion: Champion) -> None:
    monitor, x = DriftMonitor(champion.manifest), rows(3_000, 53)
    x[1_500:, at("days_since_order")] *= 3.0
    found = watch(monitor, x, labels(champion, 3_000, 53))

    assert {d.stream for d in found} == {"days_since_order"}
    assert found[0].kind == "feature"
    assert found[0].mean_since > 2.0 * found[0].mean_before
    assert "Days since the last order went from" in found[0].reason
    # what it is like now is the new normal
    assert all(d.version < 2_200 for d in found)


def test_unknown_values_and_infinite_ones_change_nothing(champion: Champion) -> None:
    monitor = DriftMonitor(champion.manifest)
    x = np.full((3 * REFERENCE, len(FEATURE_NAMES)), np.nan, np.float32)
    x[::2] = np.inf
    assert watch(monitor, x, labels(champion, len(x), 57)) == []
    assert monitor.state().n[2:] == [0.0] * (len(monitor.streams) - 2)


def test_a_restart_changes_nothing(champion: Champion) -> None:
    x = rows(1_500, 54)
    x[700:, at("days_since_order")] *= 4.0
    told_of = labels(champion, 1_500, 54)
    straight = DriftMonitor(champion.manifest)
    found = watch(straight, x, told_of)
    half = DriftMonitor(champion.manifest)
    raised = watch(half, x[:720], told_of[:720])
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(half.state()), type=DriftState)
    resumed = DriftMonitor(champion.manifest, wire)
    raised += watch(resumed, x[720:], told_of[720:], 720)

    assert found
    assert raised == found
    assert resumed.state() == straight.state()


def test_a_snapshot_lists_the_drifts_detected(champion: Champion) -> None:
    learner = OnlineLearner(champion.manifest)
    for i, one in enumerate([*labels(champion, 800, 55), *labels(champion, 600, 56, shift=3.0)]):
        learner.learn(msgspec.structs.replace(one, ordinal=i + 1))
    snapshot = learner.snapshot()

    assert LOSS in {d.stream for d in snapshot.drifts}
    assert learner.counts["drifts"] == len(snapshot.drifts)
    promoted = msgspec.structs.replace(champion.manifest, version="next")
    after = OnlineLearner.restore(snapshot, promoted)
    assert after.snapshot().drifts == snapshot.drifts  # reported once more, not forgotten
