"""Why labels wait for their horizon: who learns "bought" at once and "churned" at H is biased.

"No order in H days" is known H days after it was asked, "ordered" as soon as it happens. A learner
that takes each answer when it comes hears the buyers first. Where customers only ever become more,
it hears of buyers among the many who were asked lately, and of churners among the fewer who were
asked a horizon ago, so that it underrates churn for as long as the shop grows. One open question
per customer, answered at exactly asked + H whatever happened before, hears both alike
(`streams/core/questions.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from models.champion import Champion
from models.learner import OnlineLearner
from tests.models.synthetic import F, example

HORIZON_DAYS = 28
P_CHURN = 0.3
BUYER_WAITS_DAYS = 7.0  # on average, of those who buy within the horizon
GROWTH_PER_DAY = 0.02
DAYS = 200


@dataclass(frozen=True)
class Answers:
    """Questions of a growing shop where everybody churns with P_CHURN: day asked, day on which the
    answer can be known, and the answer; float64 [n], float64 [n], bool [n]."""

    asked: np.ndarray
    bought: np.ndarray
    churned: np.ndarray

    @classmethod
    def of(cls, seed: int) -> Answers:
        rng = np.random.default_rng(seed)
        per_day = rng.poisson(3.0 * np.exp(GROWTH_PER_DAY * np.arange(DAYS)))
        asked = np.repeat(np.arange(DAYS), per_day) + rng.random(per_day.sum())
        churned = rng.random(len(asked)) < P_CHURN
        # exponential, cut off at the horizon
        share = rng.random(len(asked)) * (1 - math.exp(-HORIZON_DAYS / BUYER_WAITS_DAYS))
        return cls(asked, asked - BUYER_WAITS_DAYS * np.log1p(-share), churned)

    def known_at(self, *, at_once: bool) -> np.ndarray:
        """The day on which each answer is learned."""
        due = self.asked + HORIZON_DAYS
        return np.where(self.churned, due, self.bought) if at_once else due


def learned_rate(champion: Champion, answers: Answers, *, at_once: bool) -> float:
    """What the learner believes over its last 1,000 labels, having started at the truth."""
    learner = OnlineLearner(champion.manifest)
    # At their means, features say nothing: only the intercept can move.
    x = np.full(F, np.nan, np.float32)
    day = answers.known_at(at_once=at_once)
    order = np.argsort(day, kind="stable")
    believed = []
    for n, i in enumerate(order[day[order] < DAYS], 1):
        learner.learn(
            example(
                x, bool(answers.churned[i]), ordinal=n,
                champion_version=champion.version, p_champion=P_CHURN,
            )
        )  # fmt: skip
        believed.append(learner.predict(x, P_CHURN))
    assert len(believed) > 4_000
    return float(np.mean(believed[-1_000:]))


def expected_of_the_naive() -> float:
    """Answers that arrive on one day stem from cohorts of different size: those of churners from a
    horizon ago, those of buyers from as long ago as they waited."""
    rate, growth = 1 / BUYER_WAITS_DAYS, GROWTH_PER_DAY
    cut = 1 - math.exp(-rate * HORIZON_DAYS)
    buyers = rate / (rate + growth) * (1 - math.exp(-(rate + growth) * HORIZON_DAYS)) / cut
    churners = math.exp(-growth * HORIZON_DAYS)
    return P_CHURN * churners / (P_CHURN * churners + (1 - P_CHURN) * buyers)


def test_the_naive_learner_is_biased_and_this_one_is_not(
    champion: Champion, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [Answers.of(seed) for seed in range(3)]
    naive = np.mean([learned_rate(champion, run, at_once=True) for run in runs])
    ours = np.mean([learned_rate(champion, run, at_once=False) for run in runs])
    with capsys.disabled():
        print(f"\nof {P_CHURN:.1%} who churn: {ours:.1%} learned, {naive:.1%} by the naive learner")
    assert ours == pytest.approx(P_CHURN, abs=0.025)
    assert naive == pytest.approx(expected_of_the_naive(), abs=0.025)
    assert ours - naive > 0.05


def test_in_its_first_weeks_the_naive_learner_hears_of_nobody_who_left() -> None:
    answers = Answers.of(1)
    for at_once, share in ((True, 0.0), (False, P_CHURN)):
        day = answers.known_at(at_once=at_once)
        start = 0 if at_once else HORIZON_DAYS
        early = (day >= start) & (day < start + HORIZON_DAYS)
        assert answers.churned[early].mean() == pytest.approx(share, abs=0.1)
