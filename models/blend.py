"""Scores rows: the champion, the learner's snapshot, and the blend of the two.

Every row's result is the same bits whichever rows are scored with it, because training and audits
score the same rows in other batches. So there is no matrix product here: BLAS chooses its order of
additions by shape. Each row's terms are contiguous, and numpy's sum over a contiguous last axis
adds them in an order that depends on their number alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.champion import Champion, Outlook
from schemas.messages import LearnerSnapshot

__all__ = ["CLIP", "BlendedScorer", "Scores", "logit", "score_snapshot", "unsound", "usable"]

CLIP: Final = 5.0
"""Standardised features are clipped to ±CLIP, so that one outlier can't decide a score."""

_CHUNK_ROWS: Final = 256  # 256 rows x 127 features x 8 bytes stay within a core's own cache


@dataclass(frozen=True)
class Scores:
    """One batch's scores, each float32 [n].

    `p_churn` is what to act on: `p_champion` moved towards `p_learner` by the snapshot's blend
    weight. `spend` is the expected spend over the champion's horizon.
    """

    p_churn: NDArray[np.float32]
    p_champion: NDArray[np.float32]
    p_learner: NDArray[np.float32]
    spend: NDArray[np.float32]


class BlendedScorer:
    """Scores with a champion and the learner's snapshot; stateless."""

    def __init__(self, champion: Champion) -> None:
        self.champion: Final = champion

    @property
    def champion_version(self) -> str:
        """The champion's artifact version."""
        return self.champion.version

    @property
    def horizon_days(self) -> int:
        """The champion's horizon."""
        return self.champion.horizon_days

    @property
    def min_orders(self) -> int:
        """Orders a user needs to be like those that the champion learned from."""
        return self.champion.manifest.eligibility.min_orders

    def score(self, x: NDArray[np.float32], snapshot: LearnerSnapshot | None) -> Scores:
        """Scores `x` float32 [n, F] (NaN = unknown).

        A snapshot that was learned on another champion counts as none; then all three
        probabilities are the champion's. A row for which the champion has no number
        has NaN in everything. Raises ValueError for another shape or dtype.
        """
        p_champion, spend = self.champion.score_or_nan(x)
        if snapshot is not None and not usable(snapshot, self.champion_version):
            snapshot = None
        p_learner, p_churn = score_snapshot(x, p_champion, snapshot)
        return Scores(p_churn, p_champion, p_learner, spend)

    def forecast(self, x: NDArray[np.float32]) -> Outlook:
        """Forecasts of the next order for rows `x` float32 [n, F]; NaN without these heads."""
        if self.champion.has_outlook:
            return self.champion.outlook(x)
        unknown = np.full(len(x), np.nan, np.float32)
        return Outlook(unknown, unknown, unknown.astype(np.float64))


def usable(snapshot: LearnerSnapshot, champion_version: str) -> bool:
    """Whether a snapshot belongs to this champion."""
    return snapshot.champion_version == champion_version


def unsound(snapshot: LearnerSnapshot) -> str | None:
    """Why a snapshot can't be scored with, for any champion; None if it can.

    Its numbers go into the journal and from there into every later step and replay, so a wrong
    number must be found before that.
    """
    columns = (snapshot.weights, snapshot.mean, snapshot.scale)
    lengths = {len(column) for column in columns}
    if lengths != {len(snapshot.features)}:
        return f"it has {sorted(lengths)} numbers for {len(snapshot.features)} features"
    scalars = (snapshot.intercept, snapshot.logit_weight, snapshot.blend_weight)
    if not all(map(isfinite, chain(scalars, *columns))):
        return "it holds something that is not a number"
    if not all(scale > 0 for scale in snapshot.scale):
        return "a feature's scale is 0 or less"
    if not 0 <= snapshot.blend_weight <= 1:
        return f"its blend weight is {snapshot.blend_weight}, not between 0 and 1"
    return None


def logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-odds of probabilities strictly between 0 and 1, as the champion gives them."""
    return np.log(p) - np.log1p(-p)


def score_snapshot(
    x: NDArray[np.float32], p_champion: NDArray[np.float32], snapshot: LearnerSnapshot | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`x` float32 [n, F], `p_champion` float32 [n] -> `p_learner`, `p_churn`, float32 [n].

    The formula is `LearnerSnapshot`'s, computed in float64. Without a snapshot both results are
    the champion's.
    """
    if snapshot is None:
        return p_champion, p_champion
    champion = p_champion.astype(np.float64)
    z = snapshot.intercept + snapshot.logit_weight * logit(champion)
    _add_features(z, x, snapshot)
    learner = 1.0 / (1.0 + np.exp(-z))
    churn = (1.0 - snapshot.blend_weight) * champion + snapshot.blend_weight * learner
    return learner.astype(np.float32), churn.astype(np.float32)


def _add_features(
    z: NDArray[np.float64], x: NDArray[np.float32], snapshot: LearnerSnapshot
) -> None:
    """Adds the sum of `weights[f] * standardised(x[f])` to `z` in place."""
    weights = np.array(snapshot.weights)
    if not weights.any():
        return
    mean = np.array(snapshot.mean)
    rate = 1.0 / np.array(snapshot.scale)  # multiplying is several times cheaper than dividing
    for start in range(0, len(x), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        terms = x[part].astype(np.float64, order="C")
        terms -= mean
        terms *= rate
        np.maximum(terms, -CLIP, out=terms)  # as np.clip, at half its cost
        np.minimum(terms, CLIP, out=terms)
        terms *= weights
        np.putmask(terms, np.isnan(terms), 0.0)
        z[part] += np.add.reduce(terms, axis=1)
