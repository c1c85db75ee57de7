"""Makes training rows by replaying orders through the very code that computes live features.

At every weekly cut, each eligible user becomes one row: the features as of the cut, and what
happened in the horizon after it. Features that only a clickstream fills are left unknown when the
history has none, so that the model can't mistake "no clicks were recorded" for "did not click".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.baselines.baselines import fit_baselines
from models.training.dataset import LATER_SHARE, Dataset
from schemas.errors import SettingsError
from schemas.features import FEATURE_NAMES
from streams.core.apply import admit, apply
from streams.core.events.decode import decode
from streams.core.events.events import DecodeRules
from streams.core.events.records import CLICKSTREAM, ORDERS, Records
from streams.core.features import DAY_MS, features
from streams.core.state.shard_state import ShardState
from streams.evaluation.baselines import baseline_scores, history_summary
from streams.evaluation.history import History
from streams.evaluation.protocol import FIRST_CUT_DAYS
from streams.evaluation.rhythm import LONGEST_DAYS
from streams.evaluation.rows import CutRows, cut_rows, training_rows
from streams.replay.records import Block

__all__ = ["TrainingCuts", "longest_horizon_days", "replay_cuts", "without_erased"]


@dataclass(frozen=True)
class TrainingCuts:
    """Every weekly cut's rows, and what is needed to choose among them by time."""

    cuts: list[CutRows]
    history: History
    horizon_days: int
    clicks: bool

    def rows(self, *, after_ms: int = 0, until_ms: int | None = None) -> Dataset | None:
        """The rows whose labels became known in (after, until]; until the end without `until`."""
        return training_rows(
            self.cuts,
            after_ms=after_ms,
            until_ms=self.history.last_ms + 1 if until_ms is None else until_ms,
            horizon_days=self.horizon_days,
            clicks=self.clicks,
        )

    def baselines(self, data: Dataset) -> dict[str, NDArray[np.float64]]:
        """Churn and value scores of the baselines for the rows of `data`, fitted as of the time
        from which training judges, by `churn/<name>` and `value/<name>`."""
        start = int(np.quantile(data.as_of_ms, 1.0 - LATER_SHARE, method="higher"))
        fitted = fit_baselines(history_summary(self.history, start))
        chosen = set(np.unique(data.as_of_ms).tolist())
        scores = [
            baseline_scores(fitted, self.history, cut, self.horizon_days)
            for cut in self.cuts
            if cut.cut_ms in chosen and len(cut.user)
        ]
        return {
            f"{task}/{name}": np.concatenate([s[f"{name}/{task}"] for s in scores])
            for name, _, task in (key.partition("/") for key in scores[0])
            if task in ("churn", "value")
        }


def longest_horizon_days(history: History) -> int:
    """The longest horizon that a history can be trained with, 0 if there is none: labels of the
    first two thirds of the cuts can then be known before the last quarter, which judges."""
    days = (history.last_ms - history.first_ms) // DAY_MS
    return int(min(max(days - FIRST_CUT_DAYS, 0) // 3, LONGEST_DAYS))


def replay_cuts(
    blocks: list[Block],
    history: History,
    *,
    horizon_days: int,
    min_orders: int,
    active_within_days: int,
    cut_every_days: int = 7,
    rules: DecodeRules,
    progress: Callable[[str, float], None] = lambda _what, _done: None,
) -> TrainingCuts:
    """Replay `blocks`, whose orders are `history`, and take a row per eligible user and cut.

    The last cut is one horizon before the end, so that every label is known. Raises SettingsError
    when the history is too short for a single cut.
    """
    first_ms, last_ms = history.first_ms, history.last_ms
    start = first_ms // DAY_MS * DAY_MS + FIRST_CUT_DAYS * DAY_MS
    cuts = list(range(start, last_ms - horizon_days * DAY_MS + 1, cut_every_days * DAY_MS))
    if not cuts:
        days = (last_ms - first_ms) / DAY_MS
        raise SettingsError(
            f"{days:.0f} days of orders are too few: a horizon of {horizon_days} days needs at "
            f"least {FIRST_CUT_DAYS + horizon_days + cut_every_days}"
        )
    state = ShardState(0, len(FEATURE_NAMES))
    number = {user: i for i, user in enumerate(history.users)}
    found = []
    for i, (cut_ms, part) in enumerate(_by_cut(blocks, cuts)):
        _feed(state, part, rules)
        _advance(state, cut_ms)
        rows = _eligible(state, cut_ms, min_orders, active_within_days)
        users = np.array([number[u] for u in state.users[rows]], np.int64)
        x = features(state, rows, cut_ms)
        found.append(cut_rows(history, cut_ms, users, x, horizon_days))
        progress("replay", (i + 1) / len(cuts))
    clicks = any(r.topic_kind == "clickstream" for block in blocks for r in block)
    return TrainingCuts(found, history, horizon_days, clicks)


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


def _by_cut(blocks: list[Block], cuts: list[int]) -> Iterator[tuple[int, Block]]:
    """For each cut, the records before it that no earlier cut had."""
    records = [record for block in blocks for record in block]
    times = np.array([r.timestamp_ms for r in records])
    stops = np.searchsorted(times, cuts)
    for start, stop, cut in zip([0, *stops[:-1]], stops, cuts, strict=True):
        yield cut, records[start:stop]


def _feed(state: ShardState, part: Block, rules: DecodeRules) -> None:
    for source, kind in ((CLICKSTREAM, "clickstream"), (ORDERS, "orders")):
        chosen = [r for r in part if r.topic_kind == kind]
        if not chosen:
            continue
        n = len(chosen)
        times = np.array([r.timestamp_ms for r in chosen], np.int64)
        events = decode(
            Records.of(np.arange(n), times, [r.key for r in chosen], [r.value for r in chosen]),
            source,
            rules,
        )
        if len(events):
            _advance(state, int(events.ts_ms.max()))
        apply(state, events, admit(state, events, lateness_ms=7 * DAY_MS))


def _advance(state: ShardState, now_ms: int) -> None:
    state.meta.clock_ms = max(state.meta.clock_ms, now_ms)
    state.counts.advance(state.meta.clock_ms)
    state.money.advance(state.meta.clock_ms)


def _eligible(
    state: ShardState, now_ms: int, min_orders: int, active_within_days: int
) -> NDArray[np.int64]:
    c, n = state.columns, state.n
    recent = now_ms - c.recent_orders_ms[:n, 0] <= active_within_days * DAY_MS
    return np.flatnonzero((c.orders[:n] >= min_orders) & recent)
