"""Trees, the sequence model and both pooled, on the shop where order matters; and the ceiling."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import load_artifact
from models.baselines.metrics import auc, log_loss
from models.manifest import Eligibility
from models.sequence.train import train_sequence
from models.training.dataset import Dataset
from models.training.promotion import Verdict, judge_scores
from models.training.sample import WEEK_MS, sampled
from models.training.train import train
from streams.core.hashing import mix
from streams.evaluation.sequence import SEQUENCE_ROWS, pool, settled
from tests.core.oracle import DAY_MS
from tests.evaluation.turns.ceiling import no_order
from tests.evaluation.turns.law import Law, simulate
from tests.evaluation.turns.stream import questions

__all__ = ["HORIZON_DAYS", "SCORES", "Measured", "measured"]

HORIZON_DAYS: Final = 28
TAUGHT_SHARE: Final = 0.7
"""So much of the days has passed when both are trained; later questions judge them."""
SCORES: Final = ("trees", "sequence", "pooled", "ceiling")

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Measured:
    """One draw of the shop, on questions that were asked after the training, by half of the
    customers; the others settled how much of `pooled` is the sequence's: `weight`, of churn."""

    taught: int
    judged: int
    churn_rate: float
    auc: dict[str, float]
    log_loss: dict[str, float]
    weight: float
    verdicts: dict[str, Verdict]
    """Of the rule of promotion, against the trees."""

    def closed(self, name: str) -> float:
        """The part of the way from the trees' log loss to the ceiling's that another closes."""
        trees, ceiling = self.log_loss["trees"], self.log_loss["ceiling"]
        return (trees - self.log_loss[name]) / (trees - ceiling)


def measured(
    law: Law,
    customers: int,
    days: int,
    seed: int,
    progress: Progress = lambda _what, _done: None,
) -> Measured:
    """The shop's days through a shard, both models, and the oracle beside them."""
    rng = np.random.default_rng(seed)
    shop = simulate(law, customers, days, rng)
    asked = questions(shop, HORIZON_DAYS, rng, lambda done: progress("stream", done))
    trained_on = int(TAUGHT_SHARE * days)
    taught = asked.take(asked.day + HORIZON_DAYS <= trained_on).data
    later = asked.take(asked.day >= trained_on)
    trees = _trees(taught, later.data.x[:], progress)
    model = train_sequence(
        _sample(taught), HORIZON_DAYS, seed=seed, progress=lambda done: progress("sequence", done)
    )
    assert later.data.events is not None
    own = model.score(later.data.x[:], later.data.events)
    settles = later.user % 2 == 0
    weights = settled(
        later.data.take(settles), (trees[0][settles], trees[1][settles]),
        (own[0][settles], own[1][settles]),
    )  # fmt: skip
    judges = later.take(~settles)
    found = {"trees": trees, "sequence": own, "pooled": pool(trees, own, weights)}
    found = {name: (p[~settles], spend[~settles]) for name, (p, spend) in found.items()}
    progress("ceiling", 0.0)
    best = no_order(law, shop, judges.user, judges.day, HORIZON_DAYS, rng)
    progress("ceiling", 1.0)
    churned = judges.data.churned
    p_churn: dict[str, NDArray[np.floating]] = {name: p for name, (p, _) in found.items()}
    p_churn["ceiling"] = best
    return Measured(
        len(taught.x),
        len(churned),
        float(churned.mean()),
        {name: auc(churned, p_churn[name]) for name in SCORES},
        {name: log_loss(churned, p_churn[name]) for name in SCORES},
        weights[0],
        {
            name: judge_scores(judges.data, found["trees"], found[name])
            for name in ("sequence", "pooled")
        },
    )


def _sample(taught: Dataset) -> Dataset:
    """As an evaluation draws it."""
    if len(taught.x) <= SEQUENCE_ROWS:
        return taught
    drawn = mix(taught.user.view(np.uint64), taught.as_of_ms.view(np.uint64))
    label = taught.churned.astype(np.int64)
    return taught.take(sampled(drawn, taught.as_of_ms // WEEK_MS, label, SEQUENCE_ROWS))


def _trees(
    taught: Dataset, judged: NDArray[np.float32], progress: Progress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`p_churn` and `spend` of later rows, by a champion as `tideline train --live` makes it."""
    with tempfile.TemporaryDirectory() as directory:
        summary = train(
            taught,
            root=Path(directory),
            date="2026-11-30",
            horizon_days=HORIZON_DAYS,
            eligibility=Eligibility(min_orders=2, active_within_days=84),
            source="a made-up shop",
            threads=1,
            progress=progress,
        )
        return load_artifact(summary.path).score(judged)


assert WEEK_MS == 7 * DAY_MS
