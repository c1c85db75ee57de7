"""Confidence intervals of an AUC where each user has many rows: users are drawn, not rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import Bools, Floats

__all__ = ["auc_interval"]


def auc_interval(
    y: Bools, p: Floats, user: NDArray[Any], *, draws: int = 200, share: float = 0.95, seed: int = 7
) -> tuple[float, float]:
    """Percentile interval of the AUC over users drawn with replacement; NaN without both classes.

    `y` bool [n], `p` float [n], `user` [n]: any stable number per user. The interval holds `share`
    of `draws` draws.

    (Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 and 13: the unit that
    is drawn is the one that is independent.)
    """
    nothing = (float("nan"), float("nan"))
    if not y.any() or y.all():
        return nothing
    _, who = np.unique(user, return_inverse=True)
    users = int(who.max()) + 1
    order = np.argsort(p[~y], kind="stable")
    others = who[~y][order]
    # of each positive row: the negative ones with a lower score, and with a score that is not above
    below = np.searchsorted(p[~y][order], p[y], side="left")
    up_to = np.searchsorted(p[~y][order], p[y], side="right")
    own = who[y]
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = np.bincount(rng.integers(0, users, users), minlength=users).astype(np.float64)
        before = np.append(0.0, np.cumsum(drawn[others]))
        weight = drawn[own]
        pairs = weight.sum() * before[-1]
        if pairs > 0:
            found.append(float((weight * (before[below] + before[up_to]) / 2.0).sum() / pairs))
    if not found:
        return nothing
    low, high = np.quantile(found, [(1.0 - share) / 2.0, (1.0 + share) / 2.0])
    return float(low), float(high)
