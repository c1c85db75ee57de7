"""Whether a challenger may replace the champion: only if it did better on later, matured rows.

Both are judged on rows that neither has learned from: their labels became known after both were
trained. Churn counts by log loss and spend by Tweedie deviance, each relative to the champion's;
the challenger wins if the two together come out lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bands import BANDS, CUSTOMERS
from models.baselines.metrics import log_loss, tweedie_deviance
from models.champion import Champion
from models.training.columns import parts
from models.training.dataset import Dataset

__all__ = ["Scored", "Verdict", "judge", "judge_scores"]

MIN_ROWS: Final = 200
"""A comparison on fewer rows promotes nothing."""

Scored = tuple[NDArray[np.float32], NDArray[np.float32]]
"""`p_churn` and `spend` of rows, float32 [n] each."""


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison on `rows` rows.

    Pairs are (champion's, challenger's): mean log loss of churn in nats, and mean Tweedie deviance
    of spend.
    """

    promote: bool
    why: str
    rows: int
    log_loss: tuple[float, float]
    deviance: tuple[float, float]


def judge(champion: Champion, challenger: Champion, later: Dataset) -> Verdict:
    """Compares both on the rows of `later` that are of customers, as both know them. Their labels
    became known after both were trained. Models of other bands come with the one that wins.

    Raises `ArtifactError` if either gives a score that is not a number.
    """
    least = max(model.manifest.eligibility.min_orders for model in (champion, challenger))
    customers = later.band(least) == BANDS.index(CUSTOMERS)
    if not customers.all():
        later = later.take(customers)
    if (undecided := _undecided(later)) is not None:
        return undecided
    return judge_scores(later, _scored(champion, later), _scored(challenger, later))


def judge_scores(later: Dataset, champion: Scored, challenger: Scored) -> Verdict:
    """The same by what both say of the rows of `later`, whatever kind of model says it."""
    if (undecided := _undecided(later)) is not None:
        return undecided
    losses, deviances = [], []
    for p_churn, spend in (champion, challenger):
        losses.append(log_loss(later.churned, p_churn))
        deviances.append(tweedie_deviance(later.spend, spend))
    ratio = (losses[1] / losses[0] + deviances[1] / max(deviances[0], 1e-12)) / 2.0
    better = ratio < 1.0
    why = (
        f"log loss {losses[0]:.4f} -> {losses[1]:.4f}, "
        f"deviance {deviances[0]:.3f} -> {deviances[1]:.3f}"
    )
    return Verdict(better, why, len(later.x), (losses[0], losses[1]), (deviances[0], deviances[1]))


def _scored(model: Champion, later: Dataset) -> Scored:
    found = [model.score(part) for part in parts(later.x, np.arange(len(later.x)))]
    p_churn, spend = (np.concatenate(scores) for scores in zip(*found, strict=True))
    return p_churn, spend


def _undecided(later: Dataset) -> Verdict | None:
    """The verdict on rows that decide nothing."""
    n = len(later.x)
    if n >= MIN_ROWS and later.churned.any() and not later.churned.all():
        return None
    nothing = (float("nan"), float("nan"))
    return Verdict(False, f"{n} later rows decide nothing", n, nothing, nothing)
