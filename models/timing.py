"""The median time until the next order, from the probabilities of an order by two given days."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["LATEST_DAYS", "next_order_days"]

LATEST_DAYS: Final = 365.0
_SHAPES: Final = (0.2, 5.0)
"""Of the Weibull curve. Beyond, two nearly equal chances would decide what happens in a year."""


def next_order_days(p7: NDArray[np.floating], p30: NDArray[np.floating]) -> NDArray[np.float64]:
    """Median days until the next order, given its chance within 7 and within 30 days, both [n].

    The Weibull curve through both points, P(order by t) = 1 - exp(-(t / scale) ^ shape), crosses
    one half at scale * ln(2) ^ (1 / shape). NaN where that is later than a year.

    >>> next_order_days(np.array([0.5, 0.2, 0.001]), np.array([0.9, 0.5, 0.001])).round(1).tolist()
    [7.0, 30.0, nan]
    """
    low = np.clip(np.asarray(p7, np.float64), 1e-6, 1.0 - 1e-6)
    high = np.clip(np.maximum(p30, p7).astype(np.float64), 1e-6, 1.0 - 1e-6)
    by_7, by_30 = np.log(-np.log1p(-low)), np.log(-np.log1p(-high))
    shape = np.clip((by_30 - by_7) / math.log(30.0 / 7.0), *_SHAPES)
    # From the nearer of the two points, so that a shape that was cut off spoils least.
    half = math.log(math.log(2.0))
    near = np.abs(by_7 - half) < np.abs(by_30 - half)
    log_days = np.where(
        near, math.log(7.0) + (half - by_7) / shape, math.log(30.0) + (half - by_30) / shape
    )
    # Below 7 days there is no second point, and a shape below 1, a hazard that falls with waiting,
    # would bend the curve up to now: a constant hazard comes nearer to the truth.
    early = by_7 > half
    log_days = np.where(early, math.log(7.0) + (half - by_7) / np.maximum(shape, 1.0), log_days)
    days = np.exp(np.minimum(log_days, 50.0))
    return np.where(days <= LATEST_DAYS, days, np.nan)
