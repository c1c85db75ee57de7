"""What a shard remembers of each user besides windows: one row of numbers per user.

Times are milliseconds since 1970 UTC; 0 means never.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.features import DECAY_HALF_LIVES_DAYS, GAP_ORDERS, RECENCY_KINDS
from streams.kernels.arrays import grown

__all__ = ["DECAYED", "LEAST_ROWS", "NEW_ROW", "PLACES", "ROW", "Columns"]

DECAYED: Final = 3 * len(DECAY_HALF_LIVES_DAYS)  # orders, revenue, activity per half-life
LEAST_ROWS: Final = 256  # that there is room for at first
PLACES: Final[dict[str, tuple[str, ...]]] = {
    "last_seen_ms": RECENCY_KINDS,
    "recent_orders_ms": tuple(map(str, range(GAP_ORDERS))),
    "decayed": tuple(
        f"{what}_{days:g}d"
        for days in DECAY_HALF_LIVES_DAYS
        for what in ("orders", "revenue", "activity")
    ),
}
"""The names of the numbers in a column that has several: a checkpoint is read by them."""


class Columns:
    """Per-user columns; see `_SPEC` for dtype, width and meaning. Grown by doubling.

    Later releases read checkpoints by name, too. So a column whose meaning changes gets another
    name, and a new one begins with its value in `_FILL`.

    A user's numbers lie side by side, since a step that touches a user touches most of them: ten
    lines of the cache, where columns apart would take one each. Each column is a view, not
    contiguous.
    """

    # name: (dtype, width or 0 for a plain column)
    _SPEC: Final[dict[str, tuple[str, int]]] = {
        "user_hash": ("u8", 0),  # xxh64 of the user id: staggers questions
        "pair_owner": ("i4", 0),  # the user's number in keys of pairs, unique in a shard
        "first_seen_ms": ("i8", 0),
        "last_seen_ms": ("i8", len(RECENCY_KINDS)),
        "last_activity_ms": ("i8", 0),
        # orders placed
        "orders": ("i4", 0),
        "revenue_cents": ("i8", 0),
        "first_order_ms": ("i8", 0),
        "recent_orders_ms": ("i8", GAP_ORDERS),  # the newest order times, newest first
        # exponentially decayed sums, as of decayed_at_ms
        "decayed": ("f8", DECAYED),
        "decayed_at_ms": ("i8", 0),
        # newest scores; NaN until there is enough data
        "p_churn": ("f4", 0),
        "p_champion": ("f4", 0),
        "p_learner": ("f4", 0),
        "expected_spend": ("f4", 0),
        # the forecast, as of an order or a sweep; NaN and 0 until there is enough data
        "p_buy_7d": ("f4", 0),
        "p_buy_30d": ("f4", 0),
        "next_order_ms": ("i8", 0),
        "forecast_after_orders": ("i4", 0),  # orders when it was made: one more calls for another
        "forecast_kept_minute": ("i4", 0),  # since 1970: a sweep after that renews it
        "value_365d": ("f4", 0),
        "value_365d_low": ("f4", 0),
        "value_365d_high": ("f4", 0),
        # scores as last written to ClickHouse
        "written_p": ("f4", 0),
        "written_spend": ("f4", 0),
        "written_orders": ("i4", 0),
        "written_at_ms": ("i8", 0),
        # segments and alerts
        "lifecycle": ("i1", 0),
        "value_tier": ("i1", 0),
        "rfm": ("i1", 0),  # place in RFM_CELLS
        "segment_changes": ("i4", 0),
        "value_bin": ("i2", 0),  # -1: not counted among the live customers
        "at_risk": ("?", 0),
        "episode": ("i4", 0),
        "alert_opened_ms": ("i8", 0),
        "alert_orders": ("i4", 0),  # orders when it opened: one more closes it
        "alert_closed_ms": ("i8", 0),
        "alert_p": ("f4", 0),  # as raised, so that the closing row repeats them
        "alert_champion": ("f4", 0),
        "alert_learner": ("f4", 0),
        "alert_spend": ("f4", 0),
        "alert_day": ("i4", 0),  # when last a candidate (`streams.core.state.candidates`)
        # the shop's own segments and audiences; bits are numbered by `streams.core.state.slots`
        "segments": ("u8", 0),  # of which ones a member
        "rules_due_ms": ("i8", 0),  # when time alone may next change a segment
        "audiences": ("u4", 0),  # in which ones, whatever the arm
        "feeds": ("u4", 0),  # in which ones' feeds, so not held out
        "audience_changes": ("i4", 0),
        "exposures": ("i2", 0),  # campaigns whose effect on this user is being counted
        # the open label question
        "asked_ms": ("i8", 0),
        "due_ms": ("i8", 0),  # asked_ms + the horizon that was asked about
        "question_orders": ("i4", 0),
        "question_cents": ("i8", 0),
        "question_period": ("i4", 0),  # the last staggered period seen; -1: none yet
    }
    _FILL: Final[dict[str, float]] = {
        "p_churn": np.nan,
        "p_champion": np.nan,
        "p_learner": np.nan,
        "expected_spend": np.nan,
        "p_buy_7d": np.nan,
        "p_buy_30d": np.nan,
        "value_365d": np.nan,
        "value_365d_low": np.nan,
        "value_365d_high": np.nan,
        "written_p": np.nan,
        "written_spend": np.nan,
        "value_bin": -1,
        "question_period": -1,
        "pair_owner": -1,
    }

    user_hash: NDArray[np.uint64]
    pair_owner: NDArray[np.int32]
    first_seen_ms: NDArray[np.int64]
    last_seen_ms: NDArray[np.int64]
    last_activity_ms: NDArray[np.int64]
    orders: NDArray[np.int32]
    revenue_cents: NDArray[np.int64]
    first_order_ms: NDArray[np.int64]
    recent_orders_ms: NDArray[np.int64]
    decayed: NDArray[np.float64]
    decayed_at_ms: NDArray[np.int64]
    p_churn: NDArray[np.float32]
    p_champion: NDArray[np.float32]
    p_learner: NDArray[np.float32]
    expected_spend: NDArray[np.float32]
    p_buy_7d: NDArray[np.float32]
    p_buy_30d: NDArray[np.float32]
    next_order_ms: NDArray[np.int64]
    forecast_after_orders: NDArray[np.int32]
    forecast_kept_minute: NDArray[np.int32]
    value_365d: NDArray[np.float32]
    value_365d_low: NDArray[np.float32]
    value_365d_high: NDArray[np.float32]
    written_p: NDArray[np.float32]
    written_spend: NDArray[np.float32]
    written_orders: NDArray[np.int32]
    written_at_ms: NDArray[np.int64]
    lifecycle: NDArray[np.int8]
    value_tier: NDArray[np.int8]
    rfm: NDArray[np.int8]
    segment_changes: NDArray[np.int32]
    value_bin: NDArray[np.int16]
    at_risk: NDArray[np.bool_]
    episode: NDArray[np.int32]
    alert_opened_ms: NDArray[np.int64]
    alert_orders: NDArray[np.int32]
    alert_closed_ms: NDArray[np.int64]
    alert_p: NDArray[np.float32]
    alert_champion: NDArray[np.float32]
    alert_learner: NDArray[np.float32]
    alert_spend: NDArray[np.float32]
    alert_day: NDArray[np.int32]
    segments: NDArray[np.uint64]
    rules_due_ms: NDArray[np.int64]
    audiences: NDArray[np.uint32]
    feeds: NDArray[np.uint32]
    audience_changes: NDArray[np.int32]
    exposures: NDArray[np.int16]
    asked_ms: NDArray[np.int64]
    due_ms: NDArray[np.int64]
    question_orders: NDArray[np.int32]
    question_cents: NDArray[np.int64]
    question_period: NDArray[np.int32]

    def __init__(self) -> None:
        self._table = np.empty(0, ROW)
        self.reserve(LEAST_ROWS)

    @property
    def capacity(self) -> int:
        """Users that there is room for."""
        return len(self._table)

    def reserve(self, rows: int) -> None:
        """Make room for `rows` users; `fill` rows before they are used."""
        self._hold(grown(self._table, rows))

    def fill(self, rows: slice | NDArray[np.int64]) -> None:
        """Put what a new user has into rows."""
        self._whole[rows] = NEW_ROW

    def pack(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """A copy of some rows, one item of `ROW` each."""
        packed: NDArray[Any] = self._whole[rows].copy().view(ROW)
        return packed

    def put(self, rows: NDArray[np.int64], packed: NDArray[Any]) -> None:
        """Write what `pack` gave into some rows."""
        self._whole[rows] = packed.view(_WHOLE)

    def unpack(self, packed: NDArray[Any]) -> None:
        """Make these the first rows."""
        self._hold(grown(packed, max(LEAST_ROWS, len(packed))))

    def trim(self, rows: int) -> None:
        """Keep room for so many rows only."""
        self._hold(grown(self._table[:rows], rows))

    def _hold(self, table: NDArray[Any]) -> None:
        self._table = table
        self._whole = table.view(_WHOLE)
        for name in self._SPEC:
            setattr(self, name, table[name])


def _row_dtype() -> np.dtype[Any]:
    """The widest fields first: each lies at a multiple of its size, without holes between."""
    spec = Columns._SPEC  # noqa: SLF001
    names = sorted(spec, key=lambda name: -np.dtype(spec[name][0]).itemsize)
    fields = [(name, spec[name][0], (spec[name][1],) if spec[name][1] else ()) for name in names]
    return np.dtype(fields, align=True)


def _new_row() -> NDArray[Any]:
    row = np.zeros((), ROW)
    for name, value in Columns._FILL.items():  # noqa: SLF001
        row[name] = value
    return row.view(_WHOLE)


ROW: Final = _row_dtype()
"""One user's columns, side by side: so they lie in memory, and so they are written."""
_WHOLE: Final = np.dtype((np.void, ROW.itemsize))  # numpy copies it in one go, not field by field
NEW_ROW: Final = _new_row()
"""The row of a user of whom nothing is known."""
