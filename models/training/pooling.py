"""How much of a head is the curve (`models.curve`), and how much the trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.baselines.metrics import error_of_mean, tweedie_unit_deviance

__all__ = ["WEIGHTS", "curve_weight"]

WEIGHTS: Final = tuple(i / 10 for i in range(10))
"""Candidates for the curve's blend weight in a head. Never 1: reasons are read from the trees."""


def curve_weight(
    raw: NDArray[np.float64],
    curve: NDArray[np.float64],
    label: NDArray[np.float32],
    user: NDArray[np.int64],
    *,
    spend: bool,
    clicks: bool,
    weights: Sequence[float] = WEIGHTS,
) -> float:
    """The curve's weight, by what it costs on some rows: log loss, or Tweedie deviance of `spend`.
    Scores of the trees and of the curve, [k] each, are log-odds, or logs of the mean.

    Not the cheapest, but the largest that costs at most a standard error more (Breiman et al. 1984,
    "Classification and Regression Trees", section 3.4.3). The curve has seven parameters, and its
    error grows less than the trees' when later customers differ from those in these rows. But it
    knows no `clicks`: where the trees do, the cheapest weight is taken (D-062).
    """
    if spend:
        trees, mean = np.exp(raw), np.exp(curve)
        losses = [tweedie_unit_deviance(label, w * mean + (1.0 - w) * trees) for w in weights]
    else:
        signs = 2.0 * (label > 0) - 1.0
        losses = [np.logaddexp(0.0, -signs * (w * curve + (1.0 - w) * raw)) for w in weights]
    best = int(np.argmin([loss.mean() for loss in losses]))
    weight = weights[best]
    if clicks:
        return weight
    for w, loss in zip(weights[best + 1 :], losses[best + 1 :], strict=True):
        costs = loss - losses[best]
        if float(costs.mean()) <= error_of_mean(costs, user):
            weight = w
    return weight
