"""Everything a shard remembers, as numpy columns with one row per user.

`step` (streams/core/step.py) changes it in place; nothing else does. A function that changes
columns calls `will_change` before. `streams.core.state.snapshot` writes it down and reads it again.
Times are milliseconds since 1970 UTC; 0 means never.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.definitions import Definitions
from schemas.features import COUNT_MEASURES, MONEY_MEASURES
from schemas.messages import Erasure, JournalledSnapshot
from streams.core.state.candidates import Budget, Candidates
from streams.core.state.columns import LEAST_ROWS, ROW, Columns
from streams.core.state.contacts import CONTACTED, forget_contacts
from streams.core.state.copy_on_write import PageGuard, RowGuard
from streams.core.state.directory import UserDirectory
from streams.core.state.exposures import EXPOSURE, forget_exposures
from streams.core.state.known_orders import ORDER, forget_orders
from streams.core.state.open_questions import Questions
from streams.core.state.parked import Parked
from streams.core.state.ranks import Ranks
from streams.core.state.slots import AudienceSlot, Campaign, SegmentSlot
from streams.core.state.tails import Tails
from streams.core.state.totals import Totals
from streams.core.state.u64map import U64Map
from streams.core.state.windows import WindowSums
from streams.core.texts import Strings, Texts
from streams.kernels.arrays import zeros
from streams.kernels.counting import group

__all__ = ["STATE_FORMAT", "VALUE_BINS", "History", "Meta", "ShardState", "UserNames"]

STATE_FORMAT: Final = 9
"""How a checkpoint is read: which arrays it has, and that they follow the names in its layout
(`streams.core.state.layout`). Another column, measure, window or feature doesn't change the format.
Raise it only if the way of reading changes, and keep reading the earlier formats. Formats up to 8
are older than the first release."""

ROWS_PAGE_BITS: Final = 9  # 292 KiB
USERS_PAGE_BITS: Final = 10
_SPARSE: Final = 4  # times as much room as rows is given back
VALUE_BINS: Final = 512  # log-spaced bins of expected spend, for the value tiers' quantiles


class History(msgspec.Struct, frozen=True):
    """One backfill into this shard, as `tideline backfill` reports it."""

    name: str
    """Which files it was, and how they were read."""
    counted: int = 0
    """Events that count; among them placed orders, returns and clicks."""
    orders: int = 0
    returns: int = 0
    clicks: int = 0
    repeats: int = 0
    """Events that say nothing new: orders that the topics had, and the same event twice."""
    covered: int = 0
    """Events from a time that the state had counted already, and forgotten one by one."""
    erased: int = 0
    """Events of people who were erased."""
    dead: dict[str, int] = {}
    """Events that can't be used, by reason."""
    users: int = 0
    """Users that the shard knows afterwards."""


class Meta(msgspec.Struct):
    """The shard's few scalars."""

    shard: int
    format: int = STATE_FORMAT
    seq: int = 0
    """Number of the last step applied, see `schemas.lives`; a life's have no gaps. 0: none yet."""
    offsets: list[int] = msgspec.field(default_factory=lambda: [0, 0])
    """The next offset to read of clickstream and orders."""
    clock_ms: int = 0
    """Processing clock: event or wall time, see `streams/core/plan.py`. Never goes back."""
    watermark_ms: int = 0
    """The newest event time accepted; lateness is measured from here."""
    active_ms: int = 0
    """The clock when events last came."""
    reports_until_ms: int = 0
    """The newest event of any history: its reports of returns may have all that came before."""
    next_sweep_ms: int = 0
    """Event clock: when the next sweep is due."""
    sweep_row: int = 0
    """How many the running sweep has visited: parked users first, then rows in their order."""
    sweep_parked: int = 0
    """Parked users (`Parked.entries`) when the sweep began."""
    sweep_started_ms: int = 0
    examples: int = 0
    """Ordinal of the last matured example, numbered as steps are."""
    horizon_days: int = 0
    """Of the champion in use; 0 before the first step."""
    horizon_since: int = 0
    """The step with which that horizon came."""
    first_order_ms: int = 0
    """Event time of the shop's first order, as far as this shard knows; 0 before it."""
    learner: JournalledSnapshot | None = None
    """The learner snapshot in use."""
    champions: list[str] = msgspec.field(default_factory=list)
    """Versions of the champions that asked questions."""
    tier_total: int = 0
    """Live customers when `ShardState.values_in_force` was taken."""
    definitions: Definitions | None = None
    """The owners' definitions in force; None: what ships."""
    rules_taken: int = 0
    """Counts the definitions that this shard has taken."""
    segment_slots: list[SegmentSlot | None] = []
    """Whose the bits of the column `segments` are."""
    audience_slots: list[AudienceSlot | None] = []
    campaigns: list[Campaign] = []
    totals: Totals = msgspec.field(default_factory=Totals)
    """Sizes of tiers, stages and segments, and the moves of this hour."""
    budget: Budget | None = None
    """Of alerts a day; None: there is none."""
    rules_due_ms: int = 0
    """No user's `rules_due_ms` is earlier; 0: nobody has one."""
    partitions: int = 0
    """Number of partitions of the input topics, if keys are checked against it; 0: not known."""
    inputs_since: int = 0
    """The last step on earlier input topics, with fewer partitions; 0: there were none."""
    pair_owners: int = 0
    """The next free `pair_owner`. Every new user gets one; a user who returns after an erasure is
    new."""
    erased: list[Erasure] = []
    """People whose earlier events are excluded; one entry per person."""
    histories: list[History] = []
    """What was backfilled, in that order."""


class UserNames:
    """The users' ids by row, as an array would give them; made of bytes on access."""

    def __init__(self, directory: UserDirectory) -> None:
        self._directory = directory

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> NDArray[Any]:
        """Object [k], of str."""
        return self._directory.names(rows)

    def strings(self, rows: NDArray[np.int64]) -> Strings:
        """The same as a column for ClickHouse, without an object per row."""
        return self._directory.strings(rows)


class ShardState:
    """One shard's state. Users have rows, found through `rows_of`, and everything else is columns.
    A user who has long been silent has no row but is in `parked`, until `rows_of` needs one."""

    def __init__(self, shard: int, features: int) -> None:
        self.meta = Meta(shard)
        self.rows_by_user = UserDirectory()
        self.users = UserNames(self.rows_by_user)
        self.columns = Columns()
        self.counts = WindowSums(len(COUNT_MEASURES), np.int32)
        self.money = WindowSums(len(MONEY_MEASURES), np.int64)
        self.counts.reserve(LEAST_ROWS)
        self.money.reserve(LEAST_ROWS)
        self.parked = Parked()
        self.seen_ids = U64Map()  # event id hash -> event day
        self.pairs = U64Map()  # (user, item | category | session) -> newest 5-minute tile
        self.known_orders = U64Map(ORDER)  # (user, order id) -> day of its newest event
        self.holds = U64Map()  # (user, segment) -> since when its condition is true
        self.exposures = U64Map(EXPOSURE)  # (user, campaign) -> day on which its horizon ends
        self.contacts = U64Map(CONTACTED)  # user -> day of the newest contact
        self.features = features
        self.questions = Questions(features)
        self.value_histogram = np.zeros(VALUE_BINS, np.int64)  # of live customers, now
        self.values_in_force = np.zeros(VALUE_BINS, np.int64)  # as of the end of a sweep
        self.ranks = Ranks()
        self.candidates = Candidates()
        self.rows_guard = RowGuard(ROWS_PAGE_BITS, self.columns.pack)
        self.users_guard = PageGuard(USERS_PAGE_BITS)
        self._marks = np.zeros(LEAST_ROWS, np.int32)  # room for `grouped`
        self.erasure_cache: Any = None  # of streams.core.erasure; follows from the rest
        self.tails: Tails | None = None  # for evaluations that ask for them; not in checkpoints

    @property
    def n(self) -> int:
        """Rows in use; among them may be some that are nobody's."""
        return len(self.rows_by_user)

    @property
    def known(self) -> int:
        """Users known, parked or not."""
        return self.rows_by_user.known + len(self.parked)

    def knows(self, user: str) -> bool:
        """Whether there is such a user, parked or not."""
        return user in self.rows_by_user or user in self.parked

    @property
    def sweep_places(self) -> int:
        """How many the running sweep visits in all."""
        return self.meta.sweep_parked + self.n

    def rows_of(self, users: Texts) -> NDArray[np.int64]:
        """The row of each user, who has one from now on; int64 [len(users)]."""
        rows, added = self._seat(users)
        if len(added):
            back, packed = self.parked.take(self.rows_by_user.texts(added), self.meta.horizon_since)
            self.columns.put(added[back], packed)
            new, first = added[self.columns.pair_owner[added] < 0], self.meta.pair_owners
            self.meta.pair_owners += len(new)
            self.columns.pair_owner[new] = np.arange(first, self.meta.pair_owners)
        self.will_change(rows)
        return rows

    def _seat(self, users: Texts) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The row of each user, and which of these are new, with what a new user has."""
        if self.users_guard.copy_on_write:  # rows that were in use may be given out again
            given = self.rows_by_user.next_rows(users)
            self.users_guard.grow(int(given.max(initial=-1)) + 1)
            self.users_guard.before_change(self.users, given)
        rows, added = self.rows_by_user.rows_of(users)
        if len(added):
            self._make_room()
            self.will_change(added)
            self.users_guard.changed(added)
            self.columns.fill(added)
            self.columns.user_hash[added] = self.rows_by_user.hashes[added]
        return rows, added

    def park(self, rows: NDArray[np.int64]) -> None:
        """Put the users in `rows` (int64 [k], distinct) aside. Their windows must be empty, and
        they must have no open question."""
        rows = rows[self.parked.free(self.rows_by_user.hashes[rows])]
        if not len(rows):
            return
        self.will_change(rows)
        self.users_guard.before_change(self.users, rows)
        self.parked.add(self.rows_by_user.strings(rows), self.columns.pack(rows), self.meta.seq)
        self.columns.fill(rows)
        self.rows_by_user.release(rows)

    def unpark_oldest(self, users: int) -> tuple[NDArray[np.int64], int]:
        """Give rows to those who were parked first, about so many; returns the rows, int64 [k], and
        how many of `sweep_places` that were."""
        texts, packed, places = self.parked.take_oldest(users, self.meta.horizon_since)
        rows, _ = self._seat(texts)
        self.columns.put(rows, packed)
        return rows, places

    def grouped(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct ones of `rows` (int64 [k]), and which of them each is; int64 [d] and [k]."""
        if len(self._marks) < self.columns.capacity:
            self._marks = zeros(self.columns.capacity, np.int32)
        distinct, which = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
        return distinct[: group(rows, self._marks, distinct, which)], which

    def will_change(self, rows: NDArray[np.int64]) -> None:
        """To be called before columns of `rows` (int64 [k]) are changed."""
        self.rows_guard.before_change(rows)

    def _make_room(self) -> None:
        if self.n > self.columns.capacity:
            capacity = max(self.n, 2 * self.columns.capacity)
            self.columns.reserve(capacity)
            self.counts.reserve(capacity)
            self.money.reserve(capacity)
        self.rows_guard.grow(self.n)
        self.users_guard.grow(self.n)

    def trim(self) -> None:
        """Give back the memory of rows that nobody has any more, if it is much, and if no
        checkpoint is under way that may still look at it."""
        capacity = max(LEAST_ROWS, 2 * self.n)
        copy_on_write = self.rows_guard.copy_on_write or self.users_guard.copy_on_write
        if self.columns.capacity >= _SPARSE * max(LEAST_ROWS, self.n) and not copy_on_write:
            self.columns.trim(capacity)
            self.counts.trim(capacity)
            self.money.trim(capacity)
            self.rows_by_user.trim(capacity)
            self._marks = zeros(capacity, np.int32)

    def drop_user(self, row: int) -> None:
        """Forget the user in `row` for good: the name, every column, windows, open question.

        The row stays, empty, and is not given to anybody else: rows are what questions go by. Their
        orders are overwritten, and are not known any more. Pairs and event ids can't be separated
        by user. They are hashes that lead to no name, and expire with their windows.
        """
        rows = np.array([row], np.int64)
        self.will_change(rows)
        self.users_guard.before_change(self.users, rows)
        user_hash = self.rows_by_user.hashes[row]
        self.rows_by_user.forget(row)
        self.parked.tidy_all()  # they may have been there once
        if self.columns.value_bin[row] >= 0:
            self.value_histogram[self.columns.value_bin[row]] -= 1
        self.columns.fill(rows)
        self.counts.drop_row(row)
        self.money.drop_row(row)
        self.questions.drop(row)
        if self.tails is not None:
            self.tails.forget(user_hash)
        forget_orders(self.known_orders, user_hash)
        forget_exposures(self.exposures, user_hash)
        forget_contacts(self.contacts, user_hash)

    @property
    def nbytes(self) -> int:
        """Memory of everything that grows with users and events, in bytes."""
        return (
            self.n * ROW.itemsize
            + self._marks.nbytes
            + self.rows_by_user.nbytes
            + self.parked.nbytes
            + self.counts.nbytes(self.n)
            + self.money.nbytes(self.n)
            + self.seen_ids.nbytes
            + self.pairs.nbytes
            + self.known_orders.nbytes
            + self.holds.nbytes
            + self.exposures.nbytes
            + self.contacts.nbytes
            + self.questions.nbytes
        )

    def restore_users(
        self, users: list[str], packed: NDArray[Any], forgotten: NDArray[np.int64]
    ) -> None:
        """Give an empty state its users, one item of `ROW` each, and "" for rows that are nobody's;
        those of erased users are named as well."""
        n = len(users)
        self.rows_by_user.load(Texts.of(users), forgotten)
        self.columns.unpack(packed)
        capacity = self.columns.capacity
        self.counts.reserve(capacity)
        self.money.reserve(capacity)
        self.rows_guard.grow(n)
        self.users_guard.grow(n)
        owners = self.columns.pair_owner[:n]
        unnumbered = np.flatnonzero((owners < 0) & self.rows_by_user.named(np.arange(n)))
        if len(unnumbered):  # of an earlier build, which had rows in keys of pairs
            owners[unnumbered] = unnumbered
            self.meta.pair_owners = max(self.meta.pair_owners, n)
