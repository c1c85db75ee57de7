"""Why labels wait: learning "ordered" at once and "churned" a horizon later teaches a falsehood.

Customers order at a rate of their own and never leave, so that the chance of no order within the
horizon is known: exp(-rate * H), whatever happened before. A champion that says exactly that has
nothing to learn. Two streams of labels are made of the same orders:

- naive: a question is answered "ordered" as soon as an order comes, and the next one is asked; else
  "churned" after H. Who buys often answers soon and is asked often, and the buyers answer first.
- ours: what the shard's own questions give (`streams.core.labels`), which wait for H.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from models.champion import Champion
from models.learner import OnlineLearner
from tests.core.driving import T0, Driver, SilenceScorer, config, order
from tests.core.oracle import DAY_MS
from tests.models.synthetic import example, rows

CUSTOMERS, DAYS, H = 250, 300, 28
FROM = 60
"""Questions before this day don't count: until then few have the orders that it takes."""


class Label(NamedTuple):
    """What a learner is given: when (days), who, and whether no order came."""

    day: float
    user: int
    churned: bool


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, list[np.ndarray]]:
    """Rates per day [u], and each customer's order days."""
    rng = np.random.default_rng(5)
    rates = rng.gamma(2.0, 1.0 / 50.0, CUSTOMERS)
    counts = rng.poisson(rates * DAYS)
    return rates, [np.sort(rng.uniform(0.0, DAYS, n)) for n in counts]


@pytest.fixture(scope="module")
def ours(world: tuple[np.ndarray, list[np.ndarray]]) -> list[Label]:
    """The examples that a shard makes of these orders, swept once a day."""
    driver = Driver(
        config=config(active_within_ms=10_000 * DAY_MS), scorer=SilenceScorer(horizon_days=H)
    )
    events = sorted((day, u) for u, days in enumerate(world[1]) for day in days)
    at = 0
    for day in range(1, DAYS):
        todays = []
        while at < len(events) and events[at][0] < day:
            todays.append(order(f"u{events[at][1]}", T0 + round(events[at][0] * DAY_MS)))
            at += 1
        driver.feed([], todays)
        driver.sweep(T0 + day * DAY_MS)
    return [
        Label((r["matured_at"] - T0) / DAY_MS, int(r["user_id"][1:]), bool(r["churned"]))
        for r in driver.rows("matured_predictions")
        if r["asked_at"] >= T0 + FROM * DAY_MS
    ]


@pytest.fixture(scope="module")
def naive(world: tuple[np.ndarray, list[np.ndarray]]) -> list[Label]:
    found = []
    for u, days in enumerate(world[1]):
        asked = float(FROM + u % H)
        while True:
            after = days[np.searchsorted(days, asked, side="right") :]
            bought = len(after) > 0 and after[0] < asked + H
            answered = float(after[0]) if bought else float(asked + H)
            if answered >= DAYS:
                break
            found.append(Label(answered, u, not bought))
            asked = answered
    return sorted(found)


def bias_of_labels(labels: list[Label], rates: np.ndarray) -> float:
    """Observed share of churn less the true chance, of the customers who are in the labels as often
    as time passes for them: each customer counts once."""
    seen = np.zeros((2, CUSTOMERS))
    for label in labels:
        seen[:, label.user] += (1.0, label.churned)
    known = seen[0] > 0
    asked = seen[0] / seen[0].sum()
    truth = np.exp(-rates * H)
    observed = float((asked * seen[1] / np.maximum(seen[0], 1.0)).sum())
    return observed - float(truth[known].mean())


def learned_bias(champion: Champion, labels: list[Label], rates: np.ndarray) -> float:
    """By how much a learner that starts at the truth ends off it, over all customers."""
    learner, x, truth = OnlineLearner(champion.manifest), rows(1)[0], np.exp(-rates * H)
    for i, label in enumerate(labels):
        p = float(truth[label.user])
        learner.learn(
            example(x, label.churned, ordinal=i + 1, champion_version=champion.version,
                    p_champion=p)
        )  # fmt: skip
    assert learner.counts["learned"] == len(labels)
    predicted = [learner.predict(x, float(p)) for p in truth]
    return float(np.mean(predicted) - truth.mean())


def test_the_naive_labels_are_biased_and_ours_are_not(
    world: tuple[np.ndarray, list[np.ndarray]], naive: list[Label], ours: list[Label]
) -> None:
    rates = world[0]
    print(f"bias of labels: naive {bias_of_labels(naive, rates):+.3f} of {len(naive)}, "
          f"ours {bias_of_labels(ours, rates):+.3f} of {len(ours)}")  # fmt: skip
    assert len(ours) > 1_000
    assert bias_of_labels(naive, rates) < -0.05
    assert abs(bias_of_labels(ours, rates)) < 0.03  # twice its standard error


def test_a_naive_learner_unlearns_the_truth_and_ours_keeps_it(
    champion: Champion,
    world: tuple[np.ndarray, list[np.ndarray]],
    naive: list[Label],
    ours: list[Label],
) -> None:
    """Worst while the first horizon runs and only the buyers have answered."""
    rates = world[0]
    early = [label for label in naive if label.day < FROM + H]
    first, wrong, right = (learned_bias(champion, labels, rates) for labels in (early, naive, ours))
    print(f"bias of what is learned: naive {first:+.3f} after {H} days, {wrong:+.3f} in the end; "
          f"ours {right:+.3f}")  # fmt: skip
    assert not any(label.churned for label in early)
    assert first < -0.08
    assert wrong < right
    assert abs(right) < 0.015
