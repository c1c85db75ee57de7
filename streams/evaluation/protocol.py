"""When users are asked about, who is, and what counts as having happened. Splits by time only.

Weekly cuts begin four weeks into the history. The last third of it tests; a cut tests a task if the
task's horizon ends within the history. On Complete Journey with 28 days these are the 14 cuts on
days 245 to 336, and for the visit within 7 days the 17 cuts on days 245 to 357.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import SettingsError
from streams.core.features import DAY_MS
from streams.evaluation.history import History
from streams.evaluation.rhythm import LONGEST_DAYS

__all__ = [
    "FIRST_CUT_DAYS",
    "VISIT_ACTIVE_DAYS",
    "VISIT_DAYS",
    "Labels",
    "Protocol",
    "labels",
    "longest_horizon_days",
    "plan_protocol",
]

CUT_EVERY_DAYS: Final = 7
FIRST_CUT_DAYS: Final = 28
"""A day-old history says nothing of gaps; earlier cuts teach noise."""
TEST_FROM: Final = 2 / 3  # of the history's length
VISIT_DAYS: Final = 7
VISIT_ACTIVE_DAYS: Final = 28
OWN_MEAN_HORIZONS: Final = 3  # partial defection compares with the mean of so many horizons
PARTIAL_SHARE: Final = 0.5


@dataclass(frozen=True)
class Protocol:
    """All times in ms since 1970 UTC."""

    horizon_days: int
    min_orders: int
    active_within_days: int
    cuts: list[int]
    """Weekly, all of them."""
    test_from: int
    end: int
    """Of the history."""

    @property
    def test_cuts(self) -> list[int]:
        """The cuts that test churn, partial defection and value."""
        horizon = self.horizon_days * DAY_MS
        return [c for c in self.cuts if c >= self.test_from and c + horizon <= self.end]

    @property
    def teaching_cuts(self) -> list[int]:
        """The cuts whose labels are known before the test."""
        horizon = self.horizon_days * DAY_MS
        return [c for c in self.cuts if c + horizon <= self.test_from]

    @property
    def needed_cuts(self) -> int:
        """Of these: as many as a horizon has weeks, and four at least."""
        return max(-(-self.horizon_days // CUT_EVERY_DAYS), 4)

    @property
    def has_enough(self) -> bool:
        """Whether the history is long enough for the horizon."""
        return len(self.teaching_cuts) >= self.needed_cuts and bool(self.test_cuts)

    @property
    def visit_cuts(self) -> list[int]:
        """The cuts that test the next visit."""
        return [c for c in self.cuts if c >= self.test_from]


@dataclass(frozen=True)
class Labels:
    """What happened after one cut, for k users: bool [k] and float64 [k].

    Only what is known by `known_ms` may be read: `churned`, `partial` and `spend` a horizon after
    the cut, `visited` 7 days after it, `bought_30d` 30 days after it.
    """

    churned: NDArray[np.bool_]
    partial: NDArray[np.bool_]
    spend: NDArray[np.float64]
    visited: NDArray[np.bool_]
    bought_30d: NDArray[np.bool_]

    def at(self, users: NDArray[np.int64]) -> Labels:
        """Of the users at these positions, int64 [m]."""
        return Labels(
            self.churned[users], self.partial[users], self.spend[users], self.visited[users],
            self.bought_30d[users],
        )  # fmt: skip


def plan_protocol(
    history: History, horizon_days: int, min_orders: int, active_within_days: int | None
) -> Protocol:
    """The protocol for a history. Raises SettingsError when the history is too short for it."""
    protocol = _protocol(history, horizon_days, min_orders, active_within_days)
    if not protocol.has_enough:
        days = (history.last_ms - _day_0(history)) / DAY_MS
        enough = max(3 * (horizon_days + 7), 1.5 * (2 * horizon_days + FIRST_CUT_DAYS + 35))
        raise SettingsError(
            f"{days:.0f} days of orders have fewer weekly cuts than a horizon of {horizon_days} "
            f"days asks for: {len(protocol.teaching_cuts)} to learn from before the test "
            f"({protocol.needed_cuts} are needed) and {len(protocol.test_cuts)} to test on. Use a "
            f"shorter --horizon, or a history of about {enough:.0f} days."
        )
    return protocol


def longest_horizon_days(history: History) -> int:
    """The longest horizon that a history can be evaluated with; 0 if there is none."""
    days = (history.last_ms - history.first_ms) // DAY_MS
    longest = min(days, LONGEST_DAYS)
    return next((d for d in range(longest, 0, -1) if _protocol(history, d, 0, None).has_enough), 0)


def _day_0(history: History) -> int:
    return history.first_ms // DAY_MS * DAY_MS


def _protocol(
    history: History, horizon_days: int, min_orders: int, active_within_days: int | None
) -> Protocol:
    day_0 = _day_0(history)
    days = (history.last_ms - day_0) / DAY_MS
    cuts = [
        day_0 + day * DAY_MS
        for day in range(FIRST_CUT_DAYS, int(days) - VISIT_DAYS + 1, CUT_EVERY_DAYS)
    ]
    test_from = next(
        (c for c in cuts if c - day_0 >= TEST_FROM * (days - 1) * DAY_MS), history.last_ms
    )
    return Protocol(
        horizon_days, min_orders, active_within_days or OWN_MEAN_HORIZONS * horizon_days, cuts,
        test_from, history.last_ms,
    )  # fmt: skip


def labels(history: History, cut_ms: int, users: NDArray[np.int64], horizon_days: int) -> Labels:
    """What the users (int64 [k]) did from `cut_ms` on. Horizons are [cut, cut + H)."""
    horizon = horizon_days * DAY_MS
    spend = history.spend(cut_ms, cut_ms + horizon)
    own = history.spend(cut_ms - OWN_MEAN_HORIZONS * horizon, cut_ms) / OWN_MEAN_HORIZONS
    churned = history.orders(cut_ms, cut_ms + horizon) == 0
    return Labels(
        churned=churned[users],
        partial=(spend < PARTIAL_SHARE * own)[users],
        spend=spend[users],
        visited=(history.orders(cut_ms, cut_ms + VISIT_DAYS * DAY_MS) > 0)[users],
        bought_30d=(history.orders(cut_ms, cut_ms + 30 * DAY_MS) > 0)[users],
    )
