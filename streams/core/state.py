"""Everything a shard remembers, as numpy columns with one row per user.

`step` (streams/core/step.py) changes it in place; nothing else does. Whoever changes columns calls
`will_change` before. `streams.core.snapshot` writes it down and reads it again.
Times are milliseconds since 1970 UTC; 0 means never.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.features import (
    COUNT_MEASURES,
    DECAY_HALF_LIVES_DAYS,
    FEATURES_HASH,
    GAP_ORDERS,
    MONEY_MEASURES,
    RECENCY_KINDS,
)
from schemas.messages import Erasure
from schemas.segments import DIMENSIONS
from streams.core.asked import Questions
from streams.core.directory import UserDirectory
from streams.core.frozen import PageGuard, RowGuard
from streams.core.kernels.counting import group
from streams.core.kernels.room import grown, zeros
from streams.core.table_columns import Strings
from streams.core.texts import Texts
from streams.core.u64map import U64Map
from streams.core.windows import WindowSums

__all__ = [
    "DECAYED",
    "ROW",
    "STATE_FORMAT",
    "VALUE_BINS",
    "Columns",
    "Meta",
    "ShardState",
    "UserNames",
]

STATE_FORMAT: Final = 5
"""Raised whenever `export` changes shape; a checkpoint of another format is refused."""

DECAYED: Final = 3 * len(DECAY_HALF_LIVES_DAYS)  # orders, revenue, activity per half-life
ROWS_PAGE_BITS: Final = 9  # 276 KiB
USERS_PAGE_BITS: Final = 10
VALUE_BINS: Final = 512  # log-spaced bins of expected spend, for the value tiers' quantiles


class Columns:
    """Per-user columns; see `_SPEC` for dtype, width and meaning. Grown by doubling.

    A user's numbers lie side by side, since a step that touches a user touches most of them: nine
    lines of the cache, where columns apart would take one each. Each column is a view, not
    contiguous.
    """

    # name: (dtype, width or 0 for a plain column)
    _SPEC: Final[dict[str, tuple[str, int]]] = {
        "user_hash": ("u8", 0),  # xxh64 of the user id: staggers questions
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
        # the outlook, as of an order or a sweep; NaN and 0 until there is enough data
        "p_buy_7d": ("f4", 0),
        "p_buy_30d": ("f4", 0),
        "next_order_ms": ("i8", 0),
        "outlook_orders": ("i4", 0),  # orders when it was taken: one more asks for another
        "outlook_kept_minute": ("i4", 0),  # since 1970: a sweep after that takes it anew
        # scores as last written to ClickHouse
        "written_p": ("f4", 0),
        "written_spend": ("f4", 0),
        "written_orders": ("i4", 0),
        "written_at_ms": ("i8", 0),
        # segments and alerts
        "lifecycle": ("i1", 0),
        "value_tier": ("i1", 0),
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
        "written_p": np.nan,
        "written_spend": np.nan,
        "value_bin": -1,
        "question_period": -1,
    }

    user_hash: NDArray[np.uint64]
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
    outlook_orders: NDArray[np.int32]
    outlook_kept_minute: NDArray[np.int32]
    written_p: NDArray[np.float32]
    written_spend: NDArray[np.float32]
    written_orders: NDArray[np.int32]
    written_at_ms: NDArray[np.int64]
    lifecycle: NDArray[np.int8]
    value_tier: NDArray[np.int8]
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
    asked_ms: NDArray[np.int64]
    due_ms: NDArray[np.int64]
    question_orders: NDArray[np.int32]
    question_cents: NDArray[np.int64]
    question_period: NDArray[np.int32]

    def __init__(self) -> None:
        self._table = np.empty(0, ROW)
        self.reserve(256)

    @property
    def capacity(self) -> int:
        """Users that there is room for."""
        return len(self._table)

    def reserve(self, rows: int) -> None:
        """Make room for `rows` users; `fill` rows before they are used."""
        self._hold(grown(self._table, rows))

    def fill(self, rows: slice | NDArray[np.int64]) -> None:
        """Put what a new user has into rows."""
        self._whole[rows] = _NEW_ROW

    def pack(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """A copy of some rows, one item of `ROW` each."""
        packed: NDArray[Any] = self._whole[rows].copy().view(ROW)
        return packed

    def unpack(self, packed: NDArray[Any]) -> None:
        """Make these the first rows."""
        self._hold(grown(packed, max(256, len(packed))))

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
_NEW_ROW: Final = _new_row()


class Meta(msgspec.Struct):
    """The shard's few scalars."""

    shard: int
    format: int = STATE_FORMAT
    features_hash: str = FEATURES_HASH
    seq: int = 0
    """Number of the last step applied; step numbers start at 1 and have no gaps."""
    offsets: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """The next offset to read of clickstream and orders."""
    clock_ms: int = 0
    """Processing clock: event or wall time, see `streams/core/plan.py`. Never goes back."""
    watermark_ms: int = 0
    """The newest event time accepted; lateness is measured from here."""
    next_sweep_ms: int = 0
    """Event clock: when the next sweep is due."""
    sweep_row: int = 0
    """The first row that the running sweep has not visited."""
    sweep_started_ms: int = 0
    examples: int = 0
    """Matured examples so far; the last one's ordinal."""
    horizon_days: int = 0
    """Of the champion in use; 0 before the first step."""
    first_order_ms: int = 0
    """Event time of the shop's first order, as far as this shard knows; 0 before it."""
    learner: Any = None
    """The learner snapshot in use (schemas.messages.LearnerSnapshot as builtins), or None."""
    champions: list[str] = msgspec.field(default_factory=list)
    """Versions of the champions that asked questions."""
    tier_cuts: list[int] = msgspec.field(default_factory=lambda: [-1, -1])
    """Value bins above which a customer is medium and high; -1 until first computed."""
    tier_total: int = 0
    """Live customers when the cuts were computed."""
    erased: list[Erasure] = []
    """Whose earlier events are shut out; one entry per person."""


class UserNames:
    """The users' ids by row, as an array would give them; made of bytes when they are asked for."""

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Object [k], of str."""
        return self._directory.names(rows)

    def strings(self, rows: NDArray[np.int64]) -> Strings:
        """The same as a column for ClickHouse, without an object per row."""
        return self._directory.strings(rows)


class ShardState:
    """One shard's state. `n` users, found through `rows_of`; everything else is columns."""

    def __init__(self, shard: int, features: int) -> None:
        self.meta = Meta(shard)
        self.rows_by_user = UserDirectory()
        self.users = UserNames(self.rows_by_user)
        self.columns = Columns()
        self.counts = WindowSums(len(COUNT_MEASURES), np.int32)
        self.money = WindowSums(len(MONEY_MEASURES), np.int64)
        self.counts.reserve(256)
        self.money.reserve(256)
        self.seen_ids = U64Map()  # event id hash -> event day
        self.pairs = U64Map()  # (user, item | category | session) -> newest 5-minute tile
        self.features = features
        self.questions = Questions(features)
        self.value_histogram = np.zeros(VALUE_BINS, np.int64)
        self.rows_guard = RowGuard(ROWS_PAGE_BITS, self.columns.pack)
        self.users_guard = PageGuard(USERS_PAGE_BITS)
        self._marks = np.zeros(256, np.int32)  # room for `grouped`
        self.empty_rows = np.empty(0, np.int64)  # of erased users, ascending; never used again
        self.erasure_cache: Any = None  # of streams.core.erasure; follows from the rest

    @property
    def n(self) -> int:
        """Users known."""
        return len(self.rows_by_user)

    def rows_of(self, users: Texts) -> NDArray[np.int64]:
        """The row of each user; users not known yet get the next rows. int64 [len(users)]."""
        known = self.n
        rows = self.rows_by_user.rows_of(users)
        if self.n > known:
            self._make_room(known)
        self.will_change(rows)
        return rows

    def grouped(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct ones of `rows` (int64 [k]), and which of them each is; int64 [d] and [k]."""
        if len(self._marks) < self.columns.capacity:
            self._marks = zeros(self.columns.capacity, np.int32)
        distinct, which = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        return distinct[: group(rows, self._marks, distinct, which)], which

    def will_change(self, rows: NDArray[np.int64]) -> None:
        """To be called before columns of `rows` (int64 [k]) are changed."""
        self.rows_guard.before_change(rows)

    def _make_room(self, known: int) -> None:
        """Give the users that were added to the index their rows in every column."""
        if self.n > self.columns.capacity:
            capacity = max(self.n, 2 * self.columns.capacity)
            self.columns.reserve(capacity)
            self.counts.reserve(capacity)
            self.money.reserve(capacity)
        self.rows_guard.grow(self.n)
        self.users_guard.grow(self.n)
        self.users_guard.changed_range(known, self.n)
        self.columns.fill(slice(known, self.n))
        self.columns.user_hash[known : self.n] = self.rows_by_user.hashes[known:]

    def drop_user(self, row: int) -> None:
        """Forget the user in `row` for good: the name, every column, windows, open question.

        The row stays, empty, and is not given to anybody else: rows are what questions and pair
        keys go by. Pairs and event ids can't be told apart by user. They are hashes that lead to no
        name, and expire with their windows.
        """
        rows = np.array([row], np.int64)
        self.will_change(rows)
        self.users_guard.before_change(self.users, rows)
        self.rows_by_user.forget(row)
        if self.columns.value_bin[row] >= 0:
            self.value_histogram[self.columns.value_bin[row]] -= 1
        self.columns.fill(rows)
        self.counts.drop_row(row)
        self.money.drop_row(row)
        self.questions.drop(row)
        self.empty_rows = np.sort(np.append(self.empty_rows, row))

    @property
    def nbytes(self) -> int:
        """Memory of everything that grows with users and events, in bytes."""
        return (
            self.n * ROW.itemsize
            + self._marks.nbytes
            + self.rows_by_user.nbytes
            + self.counts.nbytes(self.n)
            + self.money.nbytes(self.n)
            + self.seen_ids.nbytes
            + self.pairs.nbytes
            + self.questions.nbytes
        )

    def restore_users(self, users: list[str], packed: NDArray[Any]) -> None:
        """Give an empty state its users, one item of `ROW` each."""
        n = len(users)
        self.rows_by_user.load(Texts.of(users))
        self.columns.unpack(packed)
        capacity = self.columns.capacity
        self.counts.reserve(capacity)
        self.money.reserve(capacity)
        self.rows_guard.grow(n)
        self.users_guard.grow(n)
        # who was erased has no name; a user id has at least one character
        self.empty_rows = np.array([i for i, user in enumerate(users) if not user], np.int64)


assert tuple(DIMENSIONS) == ("value_tier", "lifecycle")  # noqa: S101  (step names them)
