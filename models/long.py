"""What a customer is worth within a year: the long horizon, and between which amounts it lies.

A curve alone says it (`models.curve`), in which customers leave; trees can't look further ahead
than labels reach. It is for everybody with an order. The chance of nothing within the year is a
curve of its own, and the rest is taken to be log-normal (`models.interval`), with the variance

    constant + by_orders / orders + by_year * years ahead + unseen * the part of a year not seen

`models.training.long_fit` learns the first three and the level on customers held back. How much the
last is, no shop can tell from its own past: see `UNSEEN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.interval import between
from schemas.features import FEATURE_NAMES

__all__ = ["LONG_DAYS", "UNSEEN", "LongHorizon", "LongValue"]

LONG_DAYS: Final = 365
UNSEEN: Final = 0.5
"""Variance of the log of a year's spend, as far as nothing of a year was seen. So much is needed by
made-up subscribers of whom half a year was known, and it makes others' intervals little wider
(D-087)."""
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")


@dataclass(frozen=True)
class LongValue:
    """Of k users, float32 [k] each, in currency: the expected spend within `LONG_DAYS`, and the
    ends of its 80 % interval. NaN where it is unknown."""

    value: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


class LongHorizon(msgspec.Struct, frozen=True):
    """What training learned beside the curves."""

    seen_days: int
    """So far ahead the longest labels reached; beyond, the curves extrapolate."""
    constant: float
    by_orders: float
    by_year: float
    unseen: float
    level: float
    """What an interval holds by the law, so that 80 % of the truth was in it."""

    def of(
        self,
        p_idle: NDArray[np.floating],
        value: NDArray[np.floating],
        x: NDArray[np.float32],
        days: float = LONG_DAYS,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Low and high end for k users with features x float32 [k, F], their chance of no order
        within `days`, and their expected spend: float64 [k], in currency."""
        orders = np.maximum(np.nan_to_num(x[:, _ORDERS].astype(np.float64), nan=1.0), 1.0)
        variance = self.constant + self.by_orders / orders + self.by_year * days / LONG_DAYS
        variance += self.unseen * max(0.0, 1.0 - self.seen_days / days)
        return between(p_idle, value, np.sqrt(variance), self.level)
