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
    order = np.argsort(p, kind="stable")
    who, positive = who[order], y[order]
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # of each run of equal scores
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        weight = np.bincount(rng.integers(0, users, users), minlength=users)[who].astype(np.float64)
        up = np.diff(np.cumsum(weight * positive)[ends], prepend=0.0)
        down_below = np.cumsum(weight * ~positive)[ends]
        down = np.diff(down_below, prepend=0.0)
        pairs = up.sum() * down_below[-1]
        if pairs > 0:
            found.append(float((up * (down_below - down / 2.0)).sum() / pairs))
    if not found:
        return nothing
    low, high = np.quantile(found, [(1.0 - share) / 2.0, (1.0 + share) / 2.0])
    return float(low), float(high)
