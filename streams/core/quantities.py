"""The numbers that owners' expressions ask for, of the users whom a step looks at."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import FEATURE_NAMES, RECENCY_KINDS
from streams.core.features import DAY_MS
from streams.core.state.ranks import rank_bin, share_below
from streams.core.state.shard_state import VALUE_BINS, ShardState
from streams.rules import RuleSet

__all__ = ["VALUE_RANK", "UserQuantities", "value_bin"]

VALUE_RANK: Final = "expected_spend"
"""Its rank has a histogram of its own, which is kept up to date between sweeps as well."""

_BINS_PER_OCTAVE: Final = 16
_COLUMN: Final = {name: place for place, name in enumerate(FEATURE_NAMES)}
_SINCE: Final = {f"days_since_{kind}": place for place, kind in enumerate(RECENCY_KINDS)}
_SINCE_COLUMN: Final = {
    "days_since_activity": "last_activity_ms",
    "tenure_days": "first_seen_ms",
    "days_since_first_order": "first_order_ms",
}
_PLAIN: Final = (
    "orders", "p_churn", "p_buy_7d", "p_buy_30d", "expected_spend", "value_365d"
)  # fmt: skip


def value_bin(spend: NDArray[np.float32]) -> NDArray[np.int16]:
    """The histogram bin of an expected spend (currency units >= 0).

    >>> value_bin(np.array([0.0, 1.0, 1e12], np.float32)).tolist()
    [0, 16, 511]
    """
    bins = np.floor(np.log2(1.0 + np.nan_to_num(spend.astype(np.float64))) * _BINS_PER_OCTAVE)
    clipped: NDArray[np.int16] = np.minimum(bins, VALUE_BINS - 1).astype(np.int16)
    return clipped


class UserQuantities:
    """What `streams.rules.Quantities` asks for, of the users in `rows` (int64 [k]) at `now_ms`.

    x: their features, float32 [k, F]. `flags` has memberships that a step has just changed; the
    others are as the state has them. Elapsed times are exact to the millisecond, and not below 0;
    the features have them as float32.
    """

    def __init__(
        self,
        state: ShardState,
        rows: NDArray[np.int64],
        x: NDArray[np.float32],
        now_ms: int,
        rules: RuleSet,
    ) -> None:
        self._state, self._rows, self._x, self._now_ms = state, rows, x, now_ms
        self._rules = rules
        self.flags: dict[str, NDArray[np.bool_]] = {"alert_open": state.columns.at_risk[rows]}

    @property
    def size(self) -> int:
        """k."""
        return len(self._rows)

    def number(self, name: str) -> NDArray[np.float64]:
        """float64 [k]; NaN: unknown. Durations in days, money in currency units."""
        c, rows = self._state.columns, self._rows
        if name == "time_to_next_order":
            at_ms = c.next_order_ms[rows]
            return np.where(at_ms > 0, (at_ms - self._now_ms) / DAY_MS, np.nan)
        if (since_ms := self._since_ms(name)) is not None:
            elapsed = np.maximum(self._now_ms - since_ms, 0) / DAY_MS
            return np.where(since_ms > 0, elapsed, np.nan)
        if name in _PLAIN:
            plain: NDArray[np.float64] = getattr(c, name)[rows].astype(np.float64)
            return plain
        return self._x[:, _COLUMN[name]].astype(np.float64)

    def _since_ms(self, name: str) -> NDArray[np.int64] | None:
        """When the time that is named began, int64 [k], 0 for never; None: it is no such time."""
        c, rows = self._state.columns, self._rows
        found: NDArray[np.int64] | None = None
        if name in _SINCE:
            found = c.last_seen_ms[rows, _SINCE[name]]
        elif name in _SINCE_COLUMN:
            found = getattr(c, _SINCE_COLUMN[name])[rows]
        elif name == "alert_age":
            found = np.where(c.at_risk[rows], c.alert_opened_ms[rows], 0)
        elif name == "order_age":
            found = c.recent_orders_ms[rows, 0]
        return found

    def code(self, name: str) -> NDArray[Any]:
        """Integers [k]: places in the catalogue's values of a choice."""
        codes: NDArray[Any] = getattr(self._state.columns, name)[self._rows]
        return codes

    def flag(self, name: str) -> NDArray[np.bool_]:
        """bool [k]."""
        if name not in self.flags:
            stem = name.removeprefix("segment.")
            slots = self._state.meta.segment_slots
            bit = next(i for i, slot in enumerate(slots) if slot is not None and slot.name == stem)
            mask = np.uint64(1 << bit)
            self.flags[name] = (self._state.columns.segments[self._rows] & mask) != 0
        return self.flags[name]

    def rank(self, name: str) -> NDArray[np.float64]:
        """The share of live customers in lower bins, float64 [k]; NaN: unknown."""
        if name == VALUE_RANK:
            spend = self._state.columns.expected_spend[self._rows]
            bins = np.where(np.isnan(spend), -1, value_bin(spend))
            return share_below(self._state.values_in_force, bins)
        return self._state.ranks.share_below(name, rank_bin(self.ranked(name)))

    def ranked(self, name: str) -> NDArray[np.float64]:
        """The number that is ranked under a name, float64 [k]: of the catalogue, with a formula or
        not, or `value.NAME` of the shop's own."""
        if name in self._rules.numbers:
            return self._rules.begin(self).number(name)
        return self.number(name)
