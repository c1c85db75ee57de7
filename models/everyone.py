"""Scores everybody: each user by the model of their band (`models.bands`).

Customers are scored by the champion and the learner, as `models.blend` does it. The learner has
learned from customers only, so for the other bands all three probabilities are the model's own.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bands import BANDS, CUSTOMERS, OTHERS, VISITORS, band_of, band_of_rows
from models.blend import BlendedScorer, Scores
from models.champion import Champion, Outlook
from models.long import LongValue
from schemas.messages import LearnerSnapshot

__all__ = ["EveryoneScorer"]

_CUSTOMERS: Final = BANDS.index(CUSTOMERS)
_VISITORS: Final = BANDS.index(VISITORS)


class EveryoneScorer:
    """Scores the users of every band that a champion has a model for; stateless."""

    def __init__(self, champion: Champion) -> None:
        self.champion: Final = champion
        self.champion_version: Final = champion.version
        self.horizon_days: Final = champion.horizon_days
        self.typical: Final = champion.manifest.typical.median_array()
        self._blend = BlendedScorer(champion)
        self.min_orders: Final = self._blend.min_orders
        self._known = np.array([band in champion.bands for band in BANDS])
        self._others = [(BANDS.index(band), band) for band in OTHERS if band in champion.bands]

    def covers(self, orders: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which users with so many orders ([k]) there is a model for, bool [k]."""
        found: NDArray[np.bool_] = self._known[band_of(orders, self.min_orders)]
        return found

    def score(self, x: NDArray[np.float32], snapshot: LearnerSnapshot | None) -> Scores:
        """As `models.blend.BlendedScorer.score`, for rows `x` float32 [n, F] of all bands. Rows of
        a band without a model have NaN in everything."""
        band = band_of_rows(x, self.min_orders)
        if (band == _CUSTOMERS).all():
            return self._blend.score(x, snapshot)
        p_churn, p_champion, p_learner, spend = np.full((4, len(x)), np.nan, np.float32)
        at = np.flatnonzero(band == _CUSTOMERS)
        known = self._blend.score(x[at], snapshot)
        p_churn[at], p_champion[at] = known.p_churn, known.p_champion
        p_learner[at], spend[at] = known.p_learner, known.spend
        for number, name in self._others:
            at = np.flatnonzero(band == number)
            p, spend[at] = self.champion.score_or_nan(x[at], name)
            p_churn[at] = p_champion[at] = p_learner[at] = p
        return Scores(p_churn, p_champion, p_learner, spend)

    def spend_interval(
        self,
        orders: NDArray[np.integer],
        p_churn: NDArray[np.float32],
        spend: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For users with so many orders and these scores, [k] each: between which amounts the spend
        lies with a chance of 80 % (`models.interval`), float32 [k]; NaN where that is unknown."""
        low, high = np.full((2, len(orders)), np.nan, np.float32)
        band = band_of(orders, self.min_orders)
        for name, interval in self.champion.manifest.spend_intervals.items():
            at = np.flatnonzero(band == BANDS.index(name))
            low[at], high[at] = interval.of(p_churn[at], spend[at])
        return low, high

    @property
    def long_seen_days(self) -> int:
        """How far ahead labels reached from which the value within 365 days was learned; 0: it is
        unknown to this champion."""
        horizon = self.champion.manifest.long_horizon if self.champion.has_long else None
        return horizon.seen_days if horizon else 0

    def long_value(self, x: NDArray[np.float32]) -> LongValue:
        """The value within 365 days for rows `x` float32 [n, F] of all bands; NaN for visitors, and
        where the champion does not know it."""
        value, low, high = np.full((3, len(x)), np.nan, np.float32)
        horizon = self.champion.manifest.long_horizon
        at = np.flatnonzero(band_of_rows(x, self.min_orders) != _VISITORS)
        if horizon is not None and self.champion.has_long and len(at):
            idle, value[at] = self.champion.long(x[at])
            low[at], high[at] = horizon.of(idle, value[at], x[at])
        return LongValue(value, low, high)

    def forecast(self, x: NDArray[np.float32]) -> Outlook:
        """Forecasts of the next order for rows `x` float32 [n, F]; NaN without these heads."""
        band = band_of_rows(x, self.min_orders)
        if (band == _CUSTOMERS).all():
            return self._blend.forecast(x)
        p7, p30 = np.full((2, len(x)), np.nan, np.float32)
        days = np.full(len(x), np.nan)
        for number, name in [(_CUSTOMERS, CUSTOMERS), *self._others]:
            at = np.flatnonzero(band == number)
            if len(at) and self.champion.has_outlook_of(name):
                found = self.champion.outlook(x[at], name)
                p7[at], p30[at], days[at] = found.p_buy_7d, found.p_buy_30d, found.next_order_days
        return Outlook(p7, p30, days)
