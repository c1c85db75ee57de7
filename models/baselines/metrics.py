"""Metrics of both heads, with numpy only.

All take arrays [n] of equal length: `y` bool, or float for amounts; `p`, a probability, and
`predicted`, an amount in the unit of `y`, of any float dtype. Unless noted, they return a float.

Where a metric needs both classes (AUC, AP) or any spread (Spearman, Gini) and there is none, the
result is NaN.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "auc",
    "average_precision",
    "bias",
    "brier",
    "churn_metrics",
    "decile_mape",
    "error_of_mean",
    "expected_calibration_error",
    "lift",
    "log_loss",
    "mean_absolute_error",
    "normalised_gini",
    "ranks",
    "spearman",
    "spend_metrics",
    "tweedie_deviance",
    "tweedie_unit_deviance",
]

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]

TWEEDIE_POWER: Final = 1.3
"""Between counting (1) and gamma (2): many zeros, a long tail."""


def ranks(values: Floats) -> NDArray[np.float64]:
    """Ranks from 1; ties share their average rank.

    >>> ranks(np.array([10.0, 20.0, 10.0])).tolist()
    [1.5, 3.0, 1.5]
    """
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    mean: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return mean


def error_of_mean(values: Floats, user: NDArray[np.int64]) -> float:
    """Standard error of the mean of `values` [n], whose rows of one `user` [n] are as one.

    >>> error_of_mean(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 7, 7]))  # 1/sqrt(2) of each
    0.7071067811865476
    """
    _, who = np.unique(user, return_inverse=True)
    by_user = np.bincount(who, values)
    return float(by_user.std()) * math.sqrt(len(by_user)) / len(values)


def auc(y: Bools, p: Floats) -> float:
    """Area under the ROC curve: the chance that a churner outranks another (Mann-Whitney U).

    >>> auc(np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    positives = int(y.sum())
    negatives = len(y) - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    u = ranks(p)[y].sum() - positives * (positives + 1) / 2.0
    return float(u / (positives * negatives))


def average_precision(y: Bools, p: Floats) -> float:
    """Area under precision over recall, as steps: sum of (R_n - R_(n-1)) P_n over thresholds.

    >>> round(average_precision(np.array([False, False, True, True]),
    ...                         np.array([0.1, 0.4, 0.35, 0.8])), 4)
    0.8333
    """
    positives = int(y.sum())
    if positives == 0:
        return float("nan")
    order = np.argsort(-p, kind="stable")
    # One step per distinct score: no threshold separates rows with equal scores.
    ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)
    hits = np.cumsum(y[order])[ends]
    steps = np.diff(hits, prepend=0) / positives
    return float((steps * hits / (ends + 1)).sum())


def lift(y: Bools, p: Floats, share: float = 0.1) -> float:
    """The rate of `y` among the `share` of rows with the highest scores, over the rate in all rows.

    Of rows that tie at the border, the expected part counts.

    >>> lift(np.array([True, False, False, False]), np.array([0.9, 0.4, 0.3, 0.2]), 0.25)
    4.0
    """
    if not len(y) or not y.any():
        return float("nan")
    room = max(1, round(share * len(y)))
    border = np.partition(p, len(p) - room)[len(p) - room]
    above, at = p > border, p == border
    hits = y[above].sum() + y[at].mean() * (room - above.sum())
    return float(hits / room / y.mean())


def log_loss(y: Bools, p: Floats) -> float:
    """Mean log loss in nats, with `p` kept 1e-6 away from 0 and 1.

    >>> round(log_loss(np.array([True, False]), np.array([0.8, 0.2])), 4)
    0.2231
    """
    if not len(y):
        return float("nan")
    p = np.clip(p.astype(np.float64), 1e-6, 1.0 - 1e-6)
    return float(-np.log(np.where(y, p, 1.0 - p)).mean())


def brier(y: Bools, p: Floats) -> float:
    """Mean squared error of a probability.

    >>> round(brier(np.array([True, False]), np.array([0.8, 0.4])), 4)
    0.1
    """
    return float(((p.astype(np.float64) - y) ** 2).mean()) if len(y) else float("nan")


def expected_calibration_error(y: Bools, p: Floats, bins: int = 10) -> float:
    """ECE over bins of equal mass: mean over bins of |observed rate - mean prediction|.

    >>> round(expected_calibration_error(np.array([True, False] * 50), np.full(100, 0.6)), 4)
    0.1
    """
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    if not parts:
        return float("nan")
    gaps = [abs(float(y[part].mean() - p[part].mean(dtype=np.float64))) for part in parts]
    return float(np.average(gaps, weights=[len(part) for part in parts]))


def spearman(y: Floats, predicted: Floats) -> float:
    """Rank correlation.

    >>> round(spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])), 4)
    1.0
    """
    a, b = ranks(y) - (len(y) + 1) / 2.0, ranks(predicted) - (len(y) + 1) / 2.0
    spread = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / spread if spread else float("nan")


def normalised_gini(y: Floats, predicted: Floats) -> float:
    """Gini of spend ordered by prediction, over that of the perfect order: 1 perfect, 0 random.

    As for customer value in Wang, Liu & Miao 2019, "A Deep Probabilistic Model for Customer
    Lifetime Value Prediction", section 4.

    >>> round(normalised_gini(np.array([0.0, 0.0, 10.0]), np.array([1.0, 2.0, 3.0])), 4)
    1.0
    """
    best = _gini(y, y)
    return _gini(y, predicted) / best if best else float("nan")


def _gini(y: Floats, order_by: Floats) -> float:
    """Covariance form; tied predictions share their rank, so that their order can't matter."""
    total = float(y.sum(dtype=np.float64))
    if total == 0.0:
        return 0.0
    centred = 2.0 * ranks(order_by) - len(y) - 1.0
    return float((centred * y).sum()) / (len(y) * total)


def mean_absolute_error(y: Floats, predicted: Floats) -> float:
    """Mean absolute error, in the unit of `y`.

    >>> mean_absolute_error(np.array([1.0, 3.0]), np.array([2.0, 1.0]))
    1.5
    """
    return float(np.abs(predicted.astype(np.float64) - y).mean())


def bias(y: Floats, predicted: Floats) -> float:
    """Total predicted over total observed: 1 is right, 1.05 is five per cent too much.

    >>> round(bias(np.array([10.0, 10.0]), np.array([12.0, 9.0])), 4)
    1.05
    """
    total = float(y.sum(dtype=np.float64))
    return float(predicted.sum(dtype=np.float64)) / total if total else float("nan")


def decile_mape(y: Floats, predicted: Floats, bins: int = 10) -> float:
    """Mean over deciles of the prediction of |mean predicted / mean observed - 1|.

    Deciles in which nothing was spent are left out.

    >>> round(decile_mape(np.array([1.0, 2.0]), np.array([1.1, 2.2]), bins=2), 4)
    0.1
    """
    order = np.argsort(predicted, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    pairs = [(float(predicted[p].mean(dtype=np.float64)), float(y[p].mean())) for p in parts]
    gaps = [abs(mean / seen - 1.0) for mean, seen in pairs if seen > 0]
    return float(np.mean(gaps)) if gaps else float("nan")


def tweedie_deviance(y: Floats, mean: Floats) -> float:
    """Mean unit deviance with variance power 1.3, which training minimises; 0 is perfect
    (Jorgensen 1997, chapter 4).

    >>> tweedie_deviance(np.array([0.0, 2.0], np.float32), np.array([0.0, 2.0], np.float32)) < 1e-6
    True
    """
    return float(tweedie_unit_deviance(y, mean).mean())


def tweedie_unit_deviance(y: Floats, mean: Floats) -> NDArray[np.float64]:
    """The unit deviance of each row, float64 [n]; `tweedie_deviance` is its mean."""
    amount, mu = y.astype(np.float64), np.maximum(mean.astype(np.float64), 1e-9)
    a, b = 1.0 - TWEEDIE_POWER, 2.0 - TWEEDIE_POWER
    parts = np.power(amount, b) / (a * b) - amount * np.power(mu, a) / a + np.power(mu, b) / b
    result: NDArray[np.float64] = 2.0 * parts
    return result


def churn_metrics(y: Bools, p: Floats) -> dict[str, float]:
    """The churn head's metrics by name; `base_rate_log_loss` is that of a constant prediction."""
    return {
        "churn_rate": float(y.mean()),
        "auc": auc(y, p),
        "average_precision": average_precision(y, p),
        "log_loss": log_loss(y, p),
        "base_rate_log_loss": log_loss(y, np.full(len(y), y.mean())),
        "brier": brier(y, p),
        "ece": expected_calibration_error(y, p),
    }


def spend_metrics(y: Floats, predicted: Floats) -> dict[str, float]:
    """All metrics of the spend head, by name."""
    return {
        "spend_mean": float(y.mean(dtype=np.float64)),
        "spend_spearman": spearman(y, predicted),
        "spend_gini": normalised_gini(y, predicted),
        "spend_mae": mean_absolute_error(y, predicted),
        "spend_bias": bias(y, predicted),
    }
