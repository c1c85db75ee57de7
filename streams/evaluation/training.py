"""Makes training rows by replaying orders through the very code that computes live features.

At every weekly cut, each eligible user is a row: the features as of the cut, and what happened in
the horizon after it. Where these are more rows than are wanted, a sample is made
(`models.training.sample`): the orders alone tell which rows there are, and only those that are
drawn are computed. Customers are replayed in groups, so memory holds one group and the sample.

Features that only a clickstream fills are left unknown when the history has none, so that the model
can't mistake "no clicks were recorded" for "did not click".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bands import band_of
from models.baselines.baselines import Purchases, fit_baselines
from models.training.dataset import LATER_SHARE, Dataset
from models.training.sample import WEEK_MS, Bounds, StratifiedSample, band_week, chosen
from schemas.errors import SettingsError
from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.events.decode import decode
from streams.core.events.events import DecodeRules
from streams.core.events.records import CLICKSTREAM, SOURCES, Records
from streams.core.features import DAY_MS, features
from streams.core.hashing import hashes, mix
from streams.core.state.shard_state import ShardState
from streams.core.state.tails import Tails
from streams.evaluation.baselines import baseline_scores, history_summary
from streams.evaluation.history import History
from streams.evaluation.protocol import FIRST_CUT_DAYS, labels
from streams.evaluation.rhythm import LONGEST_DAYS
from streams.evaluation.rows import CLICK_ONLY, later_labels, long_labels
from streams.evaluation.sampled import SampledRows
from streams.evaluation.spooled import Group, SpooledHistory, Survey
from streams.replay.records import Block

__all__ = ["Sample", "TrainingHistory", "longest_horizon_days", "states_at", "without_erased"]

CUT_EVERY_DAYS: Final = 7
_FITTED_CUSTOMERS: Final = 50_000
"""Baselines have seven parameters, and need no more customers than that."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Sample:
    """Rows to train or judge with; `of_rows`: how many there would be without sampling, nearly.
    `ends` int64 [groups]: where each group's rows end in `data`."""

    data: Dataset
    ends: NDArray[np.int64]
    of_rows: int


@dataclass(frozen=True)
class TrainingHistory:
    """A history on disk, as it is asked for training rows. Eligible are users with `min_orders`
    orders, the last of them within `active_within_days`."""

    spooled: SpooledHistory
    survey: Survey
    horizon_days: int
    min_orders: int
    active_within_days: int
    rules: DecodeRules
    progress: Progress = lambda _what, _done: None
    customers_from: int = 2
    """Orders from which on users are customers (`models.bands`)."""
    name_of: Callable[[str], str] | None = None
    """What rows name customers by, where that is not their id: their pseudonym."""

    def rows(
        self, most: int, *, after_ms: int = 0, until_ms: int | None = None,
        into: SampledRows | None = None,
    ) -> Sample | None:  # fmt: skip
        """The rows whose labels became known in (after, until], or `most` of them, the same ones
        every time; until the end of the history without `until`. `into`: beside those that are
        there. None if there are none.

        Raises SettingsError when the history is too short for a single cut.
        """
        until_ms = self.survey.last_ms + 1 if until_ms is None else until_ms
        horizon = self.horizon_days * DAY_MS
        weeks = self._cuts()
        cuts = [cut for cut in weeks if after_ms < cut + horizon <= until_ms]
        if not cuts:
            return None
        # a state takes in every week by itself, as it would live
        weeks = weeks[: weeks.index(cuts[-1]) + 1]
        drawn = self._drawn(cuts, most)
        bounds = drawn.bounds()
        rows = SampledRows(len(drawn)) if into is None else into
        ends = []
        for number in range(len(self.spooled)):
            group = self.spooled.group(number)
            names = self._names(group)
            clicks_and_orders = self.spooled.records(number)
            for cut_ms, state in states_at(clicks_and_orders, weeks, self.rules):
                if cut_ms < cuts[0]:
                    continue
                at = self._eligible(state, cut_ms)
                user = group.numbers(state.rows_by_user.hashes[at])
                truth = labels(group.history, cut_ms, user, self.horizon_days)
                label, named = truth.churned.astype(np.int64), _drawn_at(names[user], cut_ms)
                band = band_of(state.columns.orders[at], self.customers_from)
                kept = np.flatnonzero(_chosen(bounds, named, cut_ms, band, label))
                x = features(state, at[kept], cut_ms)
                if not self.survey.clicks:
                    x[:, CLICK_ONLY] = np.nan
                truth = truth.at(kept)
                later = later_labels(truth, cut_ms, until_ms, self.horizon_days)
                later |= long_labels(
                    group.history, self.survey.first_ms, cut_ms, user[kept], until_ms
                )
                rows.add(
                    x, truth.churned, truth.spend, np.full(len(kept), cut_ms, np.int64),
                    names[user[kept]], later,
                )  # fmt: skip
            ends.append(len(rows))
            self.progress("replay", (number + 1) / len(self.spooled))
        data = rows.dataset()
        if data is None:
            return None
        return Sample(data, np.array(ends, np.int64), sum(drawn.counts.values()))

    def baselines(self, sample: Sample) -> dict[str, NDArray[np.float32]]:
        """Churn and value scores of the baselines for the rows of `sample` that judge (NaN for the
        others), fitted as of the time from which these begin, by `churn/<name>` and
        `value/<name>`."""
        data = sample.data
        start = int(np.quantile(data.as_of_ms, 1.0 - LATER_SHARE, method="higher"))
        fitted = fit_baselines(self._purchases(start))
        found: dict[str, NDArray[np.float32]] = {}
        first = 0
        for number, end in enumerate(sample.ends.tolist()):
            group = self.spooled.group(number)
            rows = first + np.flatnonzero(data.as_of_ms[first:end] >= start)
            for cut_ms in np.unique(data.as_of_ms[rows]).tolist():
                at = rows[data.as_of_ms[rows] == cut_ms]
                users = group.numbers(data.user[at].view(np.uint64))
                scores = baseline_scores(fitted, group.history, cut_ms, users, self.horizon_days)
                for key, score in scores.items():
                    name, _, task = key.partition("/")
                    if task in ("churn", "value"):
                        to = found.setdefault(
                            f"{task}/{name}", np.full(len(data.x), np.nan, np.float32)
                        )
                        to[at] = score
            first = end
            self.progress("baselines", (number + 1) / len(sample.ends))
        return found

    def _cuts(self) -> list[int]:
        """Weekly; the last one is one horizon before the end, so that every label is known."""
        first_ms, last_ms = self.survey.first_ms, self.survey.last_ms
        start = first_ms // DAY_MS * DAY_MS + FIRST_CUT_DAYS * DAY_MS
        stop = last_ms - self.horizon_days * DAY_MS + 1
        cuts = list(range(start, stop, CUT_EVERY_DAYS * DAY_MS))
        if not cuts:
            days = (last_ms - first_ms) / DAY_MS
            enough = FIRST_CUT_DAYS + self.horizon_days + CUT_EVERY_DAYS
            raise SettingsError(
                f"{days:.0f} days of orders are too few: a horizon of {self.horizon_days} days "
                f"needs at least {enough}"
            )
        return cuts

    def _drawn(self, cuts: list[int], most: int) -> StratifiedSample:
        """Which rows are drawn, as if no order had been cancelled."""
        sample = StratifiedSample(most)
        for number in range(len(self.spooled)):
            group = self.spooled.group(number)
            names = self._names(group)
            due = self._due(group.history, cuts)
            for cut_ms, (users, placed) in zip(cuts, due, strict=True):
                after = group.history.orders(cut_ms, cut_ms + self.horizon_days * DAY_MS)
                week = band_week(cut_ms // WEEK_MS, band_of(placed, self.customers_from))
                left = (after[users] == 0).astype(np.int64)
                sample.add(_drawn_at(names[users], cut_ms), week, left)
            self.progress("count", (number + 1) / len(self.spooled))
        return sample

    def _names(self, group: Group) -> NDArray[np.uint64]:
        """A hash of what rows name each customer by, uint64 [users]."""
        if self.name_of is None:
            return group.user_hash
        return hashes([self.name_of(user) for user in group.history.users])

    def _due(
        self, history: History, cuts: list[int]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Who is eligible at each cut, int64 [k], and how many orders each has, int64 [k]: as if no
        order had been cancelled."""
        placed = np.zeros(len(history.users), np.int64)
        last_ms = np.zeros(len(history.users), np.int64)
        done = 0
        for cut, stop in zip(cuts, np.searchsorted(history.ts_ms, cuts).tolist(), strict=True):
            user = history.user[done:stop]
            placed += np.bincount(user, minlength=len(placed))
            last_ms[user] = history.ts_ms[done:stop]  # in time order: the last one stays
            done = stop
            recent = last_ms >= cut - self.active_within_days * DAY_MS
            users = np.flatnonzero((placed >= self.min_orders) & recent)
            yield users, placed[users]

    def _eligible(self, state: ShardState, now_ms: int) -> NDArray[np.int64]:
        c, n = state.columns, state.n
        recent = now_ms - c.recent_orders_ms[:n, 0] <= self.active_within_days * DAY_MS
        return np.flatnonzero((c.orders[:n] >= self.min_orders) & recent)

    def _purchases(self, cut_ms: int) -> Purchases:
        """Of all customers, or of enough of them."""
        found: list[Purchases] = []
        for number in range(len(self.spooled)):
            found.append(history_summary(self.spooled.group(number).history, cut_ms))
            if sum(len(some.days) for some in found) >= _FITTED_CUSTOMERS:
                break
        return Purchases(
            *(np.concatenate(column) for column in zip(*map(_columns, found), strict=True))
        )


def longest_horizon_days(first_ms: int, last_ms: int) -> int:
    """The longest horizon that a history between two times can be trained with, 0 if there is none:
    labels of the first two thirds of the cuts can then be known before the last quarter, which
    judges."""
    days = (last_ms - first_ms) // DAY_MS
    return int(min(max(days - FIRST_CUT_DAYS, 0) // 3, LONGEST_DAYS))


def without_erased(
    source: Iterable[Block], forgotten_until: Callable[[str], int]
) -> Iterator[Block]:
    """The records of `source` that are not from before an erasure of their user."""
    until: dict[bytes | None, int] = {}
    for block in source:
        for record in block:
            if record.key not in until:
                user = (record.key or b"").decode(errors="replace")
                until[record.key] = forgotten_until(user)
        yield [record for record in block if record.timestamp_ms >= until[record.key]]


def _chosen(
    bounds: Bounds, drawn: NDArray[np.uint64], cut_ms: int, band: NDArray[np.int8],
    label: NDArray[np.int64],
) -> NDArray[np.bool_]:  # fmt: skip
    """Which rows of a cut are drawn, bool [k]."""
    found = np.zeros(len(drawn), np.bool_)
    for number in np.unique(band).tolist():
        at = np.flatnonzero(band == number)
        week = int(band_week(cut_ms // WEEK_MS, number))
        found[at] = chosen(bounds, drawn[at], week, label[at])
    return found


def _drawn_at(names: NDArray[np.uint64], cut_ms: int) -> NDArray[np.uint64]:
    """By what rows are drawn, uint64 [k]; live examples are drawn by the same."""
    return mix(names, np.full(len(names), cut_ms, np.uint64))


def _columns(purchases: Purchases) -> tuple[NDArray[np.float64], ...]:
    return (
        purchases.days, purchases.first_age, purchases.last_age, purchases.revenue,
        purchases.repeat_value,
    )  # fmt: skip


def states_at(
    records: tuple[Records, Records], cuts: list[int], rules: DecodeRules, *, tails: bool = False
) -> Iterator[tuple[int, ShardState]]:
    """The state as of each cut, which took in all records before it. It changes in place. `tails`:
    whether it keeps each user's last events."""
    state = ShardState(0, len(FEATURE_NAMES))
    state.tails = Tails() if tails else None
    wanted = {*cuts}
    if len(records[CLICKSTREAM]) and cuts:  # weeks of clicks at once would make orders late
        first_ms = min(int(some.timestamps_ms[0]) for some in records if len(some))
        cuts = [*range(cuts[0], first_ms, -CUT_EVERY_DAYS * DAY_MS)][:0:-1] + cuts
    stops = [np.searchsorted(some.timestamps_ms, cuts).tolist() for some in records]
    done = [0, 0]
    for i, cut_ms in enumerate(cuts):
        for source in SOURCES:
            part = records[source][slice(done[source], stops[source][i])]
            done[source] = stops[source][i]
            if len(part):
                _feed(state, part, source, rules)
        _advance(state, cut_ms)
        if cut_ms in wanted:
            yield cut_ms, state


def _feed(state: ShardState, part: Records, source: int, rules: DecodeRules) -> None:
    events = decode(part, source, rules)
    if len(events):
        _advance(state, int(events.ts_ms.max()))
    apply(state, events, admit(state, events, lateness_ms=7 * DAY_MS))


def _advance(state: ShardState, now_ms: int) -> None:
    state.meta.clock_ms = max(state.meta.clock_ms, now_ms)
    state.counts.advance(state.meta.clock_ms)
    state.money.advance(state.meta.clock_ms)
