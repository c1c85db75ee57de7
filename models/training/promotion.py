"""Whether a challenger may replace the champion: only if it did better on later, matured rows.

Both are judged on rows that neither has learned from: their labels became known after both were
trained. Churn counts by log loss and spend by Tweedie deviance, each relative to the champion's;
the challenger wins if the two together come out lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from models.bands import BANDS, CUSTOMERS, band_of_rows
from models.baselines.metrics import log_loss, tweedie_deviance
from models.champion import Champion
from models.training.dataset import Dataset

__all__ = ["Verdict", "judge"]

MIN_ROWS: Final = 200
"""A comparison on fewer rows promotes nothing."""


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
    customers = band_of_rows(later.x, least) == BANDS.index(CUSTOMERS)
    if not customers.all():
        later = later.take(customers)
    n = len(later.x)
    if n < MIN_ROWS or later.churned.all() or not later.churned.any():
        nothing = (float("nan"), float("nan"))
        return Verdict(False, f"{n} later rows decide nothing", n, nothing, nothing)
    losses, deviances = [], []
    for model in (champion, challenger):
        p_churn, spend = model.score(later.x)
        losses.append(log_loss(later.churned, p_churn))
        deviances.append(tweedie_deviance(later.spend, spend))
    ratio = (losses[1] / losses[0] + deviances[1] / max(deviances[0], 1e-12)) / 2.0
    better = ratio < 1.0
    why = (
        f"log loss {losses[0]:.4f} -> {losses[1]:.4f}, "
        f"deviance {deviances[0]:.3f} -> {deviances[1]:.3f}"
    )
    return Verdict(better, why, n, (losses[0], losses[1]), (deviances[0], deviances[1]))
