"""How much of what clicks say reaches the champion: orders alone, with clicks, and the ceiling."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.artifact import load_artifact
from models.baselines.metrics import auc, log_loss
from models.manifest import Eligibility, GroupGain
from models.training.dataset import Dataset
from models.training.train import train
from streams.evaluation.rows import CLICK_ONLY
from tests.evaluation.clicks.ceiling import no_order
from tests.evaluation.clicks.law import Law, simulate
from tests.evaluation.clicks.stream import examples

__all__ = ["HORIZON_DAYS", "SCORES", "Measured", "measured"]

HORIZON_DAYS: Final = 28
TAUGHT_SHARE: Final = 0.65
"""So much of the days has passed when the champions are trained; later questions judge them."""
SCORES: Final = ("orders only", "with clicks", "ceiling")

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Measured:
    """One draw of the shop: churn on questions that were asked after the training."""

    taught: int
    judged: int
    churn_rate: float
    auc: dict[str, float]
    log_loss: dict[str, float]
    groups: list[GroupGain]
    """Of the champion with clicks."""

    def closed(self, metric: str) -> float:
        """The part of the way from orders only to the ceiling that clicks bring; `metric`: `auc` or
        `log_loss`."""
        orders, clicks, ceiling = (getattr(self, metric)[name] for name in SCORES)
        return float((clicks - orders) / (ceiling - orders))


def measured(
    law: Law,
    customers: int,
    days: int,
    seed: int,
    progress: Progress = lambda _what, _done: None,
) -> Measured:
    """The shop's days through one shard, both champions, and the oracle beside them."""
    rng = np.random.default_rng(seed)
    shop = simulate(law, customers, days, rng)
    found = examples(shop, HORIZON_DAYS, rng, lambda done: progress("stream", done))
    trained_on = int(TAUGHT_SHARE * days)
    taught, judged = found.before(trained_on), found.day >= trained_on
    x, churned = found.x[judged], found.churned[judged]
    scores: dict[str, NDArray[np.floating]] = {}
    scores["orders only"], _ = _champion(
        replace(taught, x=_without_clicks(taught.x[:])), _without_clicks(x), progress
    )
    scores["with clicks"], groups = _champion(taught, x, progress)
    progress("ceiling", 0.0)
    scores["ceiling"] = no_order(
        law, shop, found.user[judged], found.day[judged], HORIZON_DAYS, rng
    )
    progress("ceiling", 1.0)
    return Measured(
        len(taught.x),
        len(x),
        float(churned.mean()),
        {name: auc(churned, scores[name]) for name in SCORES},
        {name: log_loss(churned, scores[name]) for name in SCORES},
        groups,
    )


def _without_clicks(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `tideline train` has rows of order files: what clicks fill is unknown."""
    return np.where(CLICK_ONLY, np.float32(np.nan), x)


def _champion(
    taught: Dataset, judged: NDArray[np.float32], progress: Progress
) -> tuple[NDArray[np.float32], list[GroupGain]]:
    """P(churn) of later rows, float32 [k], by a champion as `tideline train --live` makes it."""
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
        return load_artifact(summary.path).score(judged)[0], summary.feature_groups
