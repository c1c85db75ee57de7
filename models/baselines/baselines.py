"""Baseline scores, computed from orders alone on the champion's rows.

recency          days since the last order
gap              those days over the user's own mean gap
rfm              sum of quintiles of recency, frequency and money, among the users of the cut
bgnbd            BG/NBD: chance of no purchase within the horizon
bgnbd_gg         BG/NBD's expected purchases times Gamma-Gamma's expected value of one
past_spend       the user's own mean spend per horizon over the last three
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.baselines.btyd import BgNbd, GammaGamma, Summary, fit_bg_nbd, fit_gamma_gamma
from models.baselines.metrics import ranks

__all__ = ["Baselines", "Purchases", "fit_baselines", "gap_ratio", "rfm"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Purchases:
    """The purchases of k users as of a time, float64 [k] each; times in days, amounts in currency.

    `days` counts days with a purchase.
    """

    days: Floats
    first_age: Floats
    last_age: Floats
    revenue: Floats
    repeat_value: Floats
    """Mean amount of a purchase day; Gamma-Gamma's z."""

    def summary(self) -> Summary:
        """The statistics that BG/NBD and Gamma-Gamma read, which count repeat purchases only."""
        return Summary(
            self.days - 1.0, self.first_age - self.last_age, self.first_age, self.repeat_value
        )


@dataclass(frozen=True)
class Baselines:
    """The fitted models. `gamma_gamma` is None where too few customers purchased repeatedly; all
    purchases are then worth the mean."""

    bg_nbd: BgNbd
    gamma_gamma: GammaGamma | None

    def p_no_purchase(self, who: Purchases, horizon_days: float) -> Floats:
        """Chance of no purchase in the horizon, float64 [k]."""
        x, recency, age, _ = who.summary()
        return self.bg_nbd.p_no_purchase(x, recency, age, horizon_days)

    def value(self, who: Purchases, horizon_days: float) -> Floats:
        """Expected spend in the horizon, in currency, float64 [k]."""
        x, recency, age, value = who.summary()
        purchases = self.bg_nbd.expected_purchases(x, recency, age, horizon_days)
        if self.gamma_gamma is None:
            return purchases * float(value.mean())
        # value is the mean over all purchase days, of which there are x + 1
        return purchases * self.gamma_gamma.mean_value(x + 1.0, value)


def fit_baselines(everybody: Purchases) -> Baselines:
    """Fits to all customers, one-time buyers included. Raises `ArtifactError` without scipy."""
    summary = everybody.summary()
    paid = everybody.repeat_value > 0
    all_days = Summary(everybody.days[paid], *(v[paid] for v in summary[1:]))
    return Baselines(fit_bg_nbd(summary), fit_gamma_gamma(all_days))


def rfm(who: Purchases) -> Floats:
    """Sum of three quintiles, 3 (worst) to 15 (best), float64 [k]; ties share their quintile."""
    total = np.zeros(len(who.days))
    for column in (-who.last_age, who.days, who.revenue):
        total += np.minimum(np.floor((ranks(column) - 0.5) / max(len(column), 1) * 5.0), 4.0) + 1.0
    return total


def gap_ratio(who: Purchases) -> Floats:
    """Silence over the user's own mean gap between purchase days, float64 [k]; 1 for users with
    purchases on one day only, who have no gap."""
    gap = (who.first_age - who.last_age) / np.maximum(who.days - 1.0, 1.0)
    return np.where(who.days > 1, who.last_age / np.maximum(gap, 1 / 24), 1.0)
