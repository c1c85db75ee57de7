"""Whether a horizon fits how often a shop's customers order.

Churn means no order within the horizon, so a horizon below a customer's usual gap calls them lost
after each order that they make. The usual gap is the median of a customer's gaps; a gap is the days
(UTC) from one day with an order to the next, so that orders of one day are one.

A horizon fits if nine of ten customers usually come back within it, and if it is twice the usual
gap of half of them: a whole order has to be missed. Nine of ten is a common cut through buying
cycles, and no cut is right for every shop (Indeed Engineering 2020, "D-Curve: An Improved Method
for Defining Non-Contractual Churn"): so a shorter horizon is warned of, and only one that is below
the usual gap of most is refused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from streams.core.features import DAY_MS

__all__ = ["LONGEST_DAYS", "HorizonFit", "judge_horizon", "usual_gap_days"]

LONGEST_DAYS: Final = 365
"""The longest horizon that may be asked for."""
MIN_GAPS: Final = 2
"""One gap alone is not yet usual."""
MIN_CUSTOMERS: Final = 10
"""Fewer customers with a usual gap say nothing about the shop."""
MOST: Final = 0.5
COME_BACK_SHARE: Final = 0.9
GAPS_MISSED: Final = 2


@dataclass(frozen=True)
class HorizonFit:
    """A horizon beside the gaps of the customers who have a usual one. Shares are of them."""

    horizon_days: int
    customers: int
    with_usual_gap: int
    """Customers who ordered on three days or more."""
    usual_gap_days: float | None
    """Of half of them; None if there are none."""
    longer_gap_share: float | None
    """How many usually pause for longer than the horizon."""
    gone_after_days: int
    """So long after the last order customers count as gone."""
    gone_share: float | None
    """How many usually pause for longer than that."""
    wanted_days: int | None
    """From so many days on a horizon fits; None if too few have a usual gap."""
    longest_days: int
    """The longest horizon that this history allows."""

    @property
    def fitting_days(self) -> int | None:
        """The horizon to propose: what is wanted, as far as the history allows; None if what it
        allows would be refused too, or nothing is wanted."""
        if self.wanted_days is None or self.usual_gap_days is None:
            return None
        days = min(self.wanted_days, self.longest_days)
        return days if days >= self.usual_gap_days and days >= 1 else None

    @property
    def verdict(self) -> Literal["fits", "short", "too short", "unknown"]:
        """`too short`: below the usual gap of most. `short`: for more than a few."""
        if self.wanted_days is None or self.longer_gap_share is None:
            return "unknown"
        if self.longer_gap_share > MOST:
            return "too short"
        enough = min(self.wanted_days, self.fitting_days or self.wanted_days)
        return "fits" if self.horizon_days >= enough else "short"

    def sentence(self) -> str:
        """What it means, for people."""
        horizon = f"a horizon of {_days(self.horizon_days)}"
        if self.verdict == "unknown":
            return (
                f"{self.with_usual_gap:,} of {self.customers:,} customers ordered on three days or "
                f"more, too few to say whether {horizon} fits how often customers order."
            )
        assert self.usual_gap_days is not None  # noqa: S101  (the verdict is known)
        assert self.longer_gap_share is not None  # noqa: S101
        every = f"every {_days(self.usual_gap_days)}" if self.usual_gap_days != 1 else "every day"
        half = f"Half of the customers order {every}"
        who = f"(of {self.with_usual_gap:,} who ordered on three days or more)"
        share = f"{self.longer_gap_share:.0%}"
        if self.verdict == "too short":
            return (
                f"{half} or less often: {horizon} calls {share} of the customers lost after every "
                f"order that they make {who}."
            )
        text = f"{half} or more often, and {share} usually pause for longer than {horizon} {who}"
        if self.verdict == "short":
            return f"{text}; from {_days(self.fitting_days or self.wanted_days or 0)} on it fits."
        return f"{text}: it fits."

    def gone_sentence(self) -> str:
        """Whether customers count as gone before they are due; empty if few do."""
        if self.verdict == "unknown" or (self.gone_share or 0.0) <= 1.0 - COME_BACK_SHARE:
            return ""
        return (
            f"{self.gone_share:.0%} of the customers usually pause for longer than the "
            f"{_days(self.gone_after_days)} after which they count as gone: they are scored for "
            "the time before only, and never alerted. Set TIDELINE_ALERTS_ACTIVE_WITHIN_DAYS to "
            "three horizons."
        )

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "verdict": self.verdict,
            "horizon_days": self.horizon_days,
            "customers": self.customers,
            "with_usual_gap": self.with_usual_gap,
            "usual_gap_days": self.usual_gap_days,
            "longer_gap_share": self.longer_gap_share,
            "gone_after_days": self.gone_after_days,
            "gone_share": self.gone_share,
            "fitting_days": self.fitting_days,
            "longest_days": self.longest_days,
            "says": " ".join(filter(None, (self.sentence(), self.gone_sentence()))),
        }


def usual_gap_days(user: NDArray[np.int64], ts_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """The usual gap of each customer who has two gaps or more, float64 [k], ascending.

    user: int64 [n], any number per customer; ts_ms: int64 [n], when each order was, in any order.
    """
    day = ts_ms // DAY_MS
    by_user = np.lexsort((day, user))
    user, day = user[by_user], day[by_user]
    gap, whose = np.diff(day), user[1:]
    is_gap = (whose == user[:-1]) & (gap > 0)
    gap, whose = gap[is_gap], whose[is_gap]
    gap = gap[np.lexsort((gap, whose))]
    _, first, gaps = np.unique(whose, return_index=True, return_counts=True)
    first, gaps = first[gaps >= MIN_GAPS], gaps[gaps >= MIN_GAPS]
    return np.sort((gap[first + (gaps - 1) // 2] + gap[first + gaps // 2]) / 2.0)


def judge_horizon(
    gap_days: NDArray[np.float64],
    *,
    customers: int,
    horizon_days: int,
    gone_after_days: int,
    longest_days: int,
) -> HorizonFit:
    """Compare a horizon with usual gaps (float64 [k], days) of some of `customers`.

    `longest_days` is the longest horizon that the history allows, 0 if it allows none.
    """
    k = len(gap_days)
    half = float(np.median(gap_days)) if k else None
    wanted = None
    if half is not None and k >= MIN_CUSTOMERS:
        nine_of_ten = float(np.quantile(gap_days, COME_BACK_SHARE, method="higher"))
        wanted = min(math.ceil(max(nine_of_ten, GAPS_MISSED * half)), LONGEST_DAYS)
    return HorizonFit(
        horizon_days=horizon_days,
        customers=customers,
        with_usual_gap=k,
        usual_gap_days=half,
        longer_gap_share=float((gap_days > horizon_days).mean()) if k else None,
        gone_after_days=gone_after_days,
        gone_share=float((gap_days > gone_after_days).mean()) if k else None,
        wanted_days=wanted,
        longest_days=longest_days,
    )


def _days(days: float) -> str:
    return f"{days:g} day" if days == 1 else f"{days:g} days"
