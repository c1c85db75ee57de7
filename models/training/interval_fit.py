"""Learns `models.interval.SpendInterval` from scores and truth of rows that were held back."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.interval import COVERAGE, SPREAD_AT, SpendInterval

__all__ = ["coverage", "fit_interval"]

_STEPS: Final = 30
_LEVELS: Final = (0.3, 0.9999)
_LEAST_ROWS: Final = 30  # of a spread; else that of all


def coverage(
    interval: SpendInterval, p_churn: NDArray[Any], expected: NDArray[Any], spend: NDArray[Any]
) -> float:
    """The share of rows whose spend is in their interval, ends included; arrays [n]."""
    low, high = interval.of(p_churn, expected)
    # scores are float32, and so is what is written
    return float(((spend >= low * (1.0 - 1e-6)) & (spend <= high * (1.0 + 1e-6))).mean())


def fit_interval(
    p_churn: NDArray[Any], expected: NDArray[Any], spend: NDArray[Any]
) -> SpendInterval | None:
    """From rows [n]: the scores, and what was spent. None if too few spent anything."""
    spent = spend > 0
    if spent.sum() < _LEAST_ROWS:
        return None
    p = np.clip(p_churn, 1e-6, 1.0 - 1e-6)[spent].astype(np.float64)
    mean = np.maximum(expected[spent].astype(np.float64), 1e-9) / (1.0 - p)
    off = np.log(spend[spent].astype(np.float64) / mean)
    near = np.abs(p[:, None] - np.array(SPREAD_AT)).argmin(axis=1)
    spread = [
        float(off[near == k].std() if (near == k).sum() >= _LEAST_ROWS else off.std())
        for k in range(len(SPREAD_AT))
    ]
    low, high = _LEVELS  # coverage grows with the level
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        reached = coverage(SpendInterval(spread, middle), p_churn, expected, spend) >= COVERAGE
        low, high = (low, middle) if reached else (middle, high)
    return SpendInterval(spread, high)
