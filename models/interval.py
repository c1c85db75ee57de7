"""Prediction intervals for spend: between which amounts does it lie, with a chance of 80 %?

A customer orders nothing with the chance `p_churn`; else the spend is taken to be log-normal around
its mean, `expected_spend / (1 - p_churn)`. How widely it scatters, by `p_churn`, and how much the
interval must hold by this law so that 80 % of the truth was in it, training learns on rows held
back (split conformal prediction; Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random
World", section 4.2). So 80 % holds over all customers together, not for each group of them.

Who may well order nothing has the interval from 0 up; it is from 0 to 0 where nothing is likely
enough. The others' interval leaves out as much at either end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

__all__ = ["COVERAGE", "SPREAD_AT", "SpendInterval", "between"]

Floats = NDArray[np.float64]
COVERAGE: Final = 0.8
SPREAD_AT: Final = (0.05, 0.2, 0.4, 0.6, 0.8)
"""Chances of no order at which the spread is known; between them it is interpolated."""
_Z: Final = np.linspace(-6.0, 6.0, 2_401)
_BELOW: Final = np.array([0.5 * math.erfc(-z / math.sqrt(2.0)) for z in _Z.tolist()])
"""The normal distribution: the chance to be below each of `_Z`."""


class SpendInterval(msgspec.Struct, frozen=True):
    """What training learned: `spread`, standard deviations of the log of what is spent if anything,
    at `SPREAD_AT`; `level`: what an interval holds by the law."""

    spread: Sequence[float]
    level: float

    def of(
        self, p_churn: NDArray[np.floating], spend: NDArray[np.floating]
    ) -> tuple[Floats, Floats]:
        """Low and high end in currency for k users with these scores, float64 [k]; NaN where a
        score is."""
        p = np.clip(p_churn.astype(np.float64), 1e-6, 1.0 - 1e-6)
        return between(p_churn, spend, np.interp(p, SPREAD_AT, self.spread), self.level)


def between(
    p_none: NDArray[np.floating], spend: NDArray[np.floating], spread: Floats, level: float
) -> tuple[Floats, Floats]:
    """The ends that hold `level` by the law: nothing with the chance `p_none`, else log-normal
    around the mean, with the standard deviation `spread` of the log. `spend`: expected. [k] each;
    float64 [k] in currency, NaN where a score is."""
    p = np.clip(p_none.astype(np.float64), 1e-6, 1.0 - 1e-6)
    tail = (1.0 - level) / 2.0
    both = p < tail
    mean = np.log(np.maximum(spend.astype(np.float64), 1e-9) / (1.0 - p))

    def amount(below: Floats) -> Floats:
        """What is exceeded with the rest of the chance `below`."""
        share = np.clip((below - p) / (1.0 - p), 0.0, 1.0)
        z = np.interp(share, _BELOW, _Z)
        return np.where(share > 0.0, np.exp(mean + spread * (z - spread / 2.0)), 0.0)

    low = np.where(both, amount(np.full(len(p), tail)), 0.0)
    high = amount(np.where(both, 1.0 - tail, level))
    unknown = np.isnan(p_none) | np.isnan(spend)
    low[unknown] = high[unknown] = np.nan
    return low, high
