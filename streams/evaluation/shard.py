"""One shard in memory, fed from a history through the real `step`, with the real learner beside it.

Nothing here is special to evaluation but that Kafka is missing: plans, sweeps, label questions,
examples and snapshots are those of production. A snapshot takes effect with the step after the
examples that it learned from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.blend import Scores
from models.champion import Champion, Outlook
from models.everyone import EveryoneScorer
from models.learner import OnlineLearner
from models.long import LongValue
from schemas.definitions import Definitions
from schemas.features import FEATURE_NAMES
from schemas.messages import Drift, Example, JournalledSnapshot, LearnerSnapshot
from streams.core.config import CoreConfig
from streams.core.events.records import ORDERS, Records
from streams.core.features import DAY_MS, features
from streams.core.plan import Pending, Plan, next_plan
from streams.core.state.shard_state import ShardState
from streams.core.state.tails import Tails
from streams.core.step import Outputs, step

__all__ = ["ReplayedShard"]

Floats32 = NDArray[np.float32]
_ORDERS: Final = FEATURE_NAMES.index("lifetime_orders")
_NOTHING: Final = Pending(np.empty(0, np.int64), np.empty(0, np.int64), caught_up=True)


def _no_forecast(k: int) -> Outlook:
    unknown = np.full(k, np.nan, np.float32)
    return Outlook(unknown, unknown, unknown.astype(np.float64))


def _no_long_value(k: int) -> LongValue:
    unknown = np.full(k, np.nan, np.float32)
    return LongValue(unknown, unknown, unknown)


class _Unscored:
    """What scores before there is a champion: nobody knows anything."""

    champion_version = "none"
    long_seen_days = 0

    def __init__(self, horizon_days: int, min_orders: int) -> None:
        self.horizon_days = horizon_days
        self.min_orders = min_orders
        self.typical = np.full(len(FEATURE_NAMES), np.nan, np.float32)

    def covers(self, orders: NDArray[np.integer]) -> NDArray[np.bool_]:
        return np.zeros(len(orders), np.bool_)

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> Scores:
        unknown = np.full(len(x), np.nan, np.float32)
        return Scores(unknown, unknown, unknown, unknown)

    def spend_interval(
        self,
        orders: NDArray[np.integer],
        p_churn: NDArray[np.float32],
        spend: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        unknown = np.full(len(orders), np.nan, np.float32)
        return unknown, unknown

    def forecast(self, x: NDArray[np.float32]) -> Outlook:
        return _no_forecast(len(x))

    def long_value(self, x: NDArray[np.float32]) -> LongValue:
        return _no_long_value(len(x))

    def reasons(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None = None
    ) -> Sequence[Sequence[str]]:
        return [[] for _ in x]


class _Unexplained(EveryoneScorer):
    """Scores as workers have them; alerts are not what is measured, so they go without reasons."""

    def reasons(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None = None
    ) -> Sequence[Sequence[str]]:
        return [[] for _ in x]


class _Quiet(_Unexplained):
    """Rows are not what is measured either, so they go without forecast."""

    @property
    def long_seen_days(self) -> int:
        return 0

    def forecast(self, x: NDArray[np.float32]) -> Outlook:
        return _no_forecast(len(x))

    def long_value(self, x: NDArray[np.float32]) -> LongValue:
        return _no_long_value(len(x))


class ReplayedShard:
    """A shard that has taken in all orders before `clock_ms`, and swept then."""

    def __init__(
        self,
        records: Records,
        config: CoreConfig,
        horizon_days: int,
        batch_records: int,
        definitions: Definitions | None = None,
        heard: Callable[[Outputs], object] = lambda _: None,
        *,
        forecasts: bool = False,
        tails: bool = False,
    ) -> None:
        """`definitions` are in force from the second step on; None: what ships. `heard` is told
        what each step puts out. `forecasts`: whether next orders are forecast. `tails`: whether
        each user's last events are kept."""
        self.state = ShardState(0, len(FEATURE_NAMES))
        self.state.tails = Tails() if tails else None
        self.champion: Champion | None = None
        self.learner: OnlineLearner | None = None
        self.steps = 0
        self.refused: Counter[str] = Counter()
        """Records that can't be used, by reason."""
        self.raised: list[tuple[str, int]] = []
        """User and time (ms since 1970 UTC) of each alert that was raised."""
        self._rescored: dict[bytes, float] = {}
        """Of the examples at hand, by features: the champion's scores."""
        self._drifts: dict[str, Drift] = {}
        self._records = records
        self._definitions = definitions
        self._heard = heard
        self._scoring = _Unexplained if forecasts else _Quiet
        self._config = replace(config, partitioner=None)  # everybody is in this one shard
        self._batch = batch_records
        self._scorer: _Unscored | _Unexplained = _Unscored(horizon_days, config.min_orders)
        self._snapshot: LearnerSnapshot | None = None

    def promote(self, champion: Champion) -> None:
        """Score with another champion from the next step on; the learner starts at it."""

        def rescore(x: NDArray[np.float32]) -> float:
            known = self._rescored.get(x.tobytes())
            return float(champion.score(x[None])[0][0]) if known is None else known

        if self.learner is None:
            self.learner = OnlineLearner(champion.manifest, rescore=rescore)
        else:
            self.learner = OnlineLearner.restore(
                self.learner.snapshot(), champion.manifest, rescore=rescore
            )
        self.champion = champion
        self._scorer = self._scoring(champion)
        self._snapshot = self.learner.snapshot()

    def run_until(self, cut_ms: int) -> None:
        """Take in every record before `cut_ms`, and run the sweeps up to and including then."""
        meta = self.state.meta
        while True:
            start = meta.offsets[ORDERS]
            part = self._records[start : start + self._batch + 1]
            pending = Pending(
                part.offsets, part.timestamps_ms, start + len(part) == len(self._records)
            )
            plan = next_plan(
                meta,
                (_NOTHING, pending),
                clock="event",
                wall_ms=0,
                sweep_interval_ms=self._config.sweep_interval_ms,
                max_records=self._batch,
                users=self.state.sweep_places,
                definitions=self._definitions if meta.seq else None,
            )
            if plan is None:
                break
            taken = part[: plan.stop[ORDERS] - start]
            if len(taken):
                early = int(np.searchsorted(taken.timestamps_ms, cut_ms))
                if not early:
                    break
                taken = taken[:early]
                plan = msgspec.structs.replace(plan, stop=(0, start + early))
            elif plan.clock_ms > cut_ms:
                break
            self._step(plan, taken)
        if meta.clock_ms < cut_ms:  # nobody has ordered since: only the clock moves
            meta.clock_ms = cut_ms
            self.state.counts.advance(cut_ms)
            self.state.money.advance(cut_ms)

    def _step(self, plan: Plan, taken: Records) -> None:
        new = None if self._snapshot is None else JournalledSnapshot.of(self._snapshot)
        self._snapshot = None
        # also one of the version that the shard has: another champion keeps counting from there
        plan = msgspec.structs.replace(plan, champion=self._scorer.champion_version, learner=new)
        outputs = step(self.state, plan, (Records.empty(), taken), self._config, self._scorer)
        self._heard(outputs)
        self.steps += 1
        self.refused.update(letter.reason for letter in outputs.dead_letters)
        self.raised += [
            (alert.user_id, self.state.meta.clock_ms)
            for alert in outputs.alerts
            if alert.state == "open"
        ]
        if self.learner is not None and outputs.examples:
            self._rescored = self._scores_of(outputs.examples)
            for example in outputs.examples:
                self.learner.learn(example)
            self._snapshot = self.learner.snapshot()
            self._drifts |= {drift.drift_id: drift for drift in self._snapshot.drifts}

    def _scores_of(self, examples: Sequence[Example]) -> dict[bytes, float]:
        """This champion's scores of what an earlier one was asked: of all at once, they are the
        same bits in a tenth of the time."""
        assert self.champion is not None  # noqa: S101  (it comes before the learner)
        earlier = [e.x for e in examples if e.champion_version != self.champion.version]
        if not earlier:
            return {}
        x = np.stack([np.frombuffer(row, np.float32) for row in earlier])
        return dict(zip(earlier, self.champion.score(x)[0].tolist(), strict=True))

    @property
    def drifts(self) -> list[Drift]:
        """What the learner has noticed so far, in order."""
        return list(self._drifts.values())

    def eligible(self, min_orders: int, active_within_days: int) -> NDArray[np.int64]:
        """Rows of the users with so many orders, the last one not longer ago than this."""
        c, n = self.state.columns, self.state.n
        recent = self.state.meta.clock_ms - c.recent_orders_ms[:n, 0] <= active_within_days * DAY_MS
        return np.flatnonzero((c.orders[:n] >= min_orders) & recent)

    def features(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [k, F] as of now."""
        return features(self.state, rows, self.state.meta.clock_ms)

    def tails(self, rows: NDArray[np.int64]) -> Floats32 | None:
        """The last events as of now, float32 [k, ...] (`schemas.tails`); None if not kept."""
        state = self.state
        if state.tails is None:
            return None
        return state.tails.of(state.rows_by_user.hashes[rows], state.meta.clock_ms)

    def spend_interval(self, x: NDArray[np.float32], scores: Scores) -> tuple[Floats32, Floats32]:
        """Of these scores of the rows, as it would be written. Needs a champion."""
        orders = x[:, _ORDERS].astype(np.int64)
        return self._scorer.spend_interval(orders, scores.p_churn, scores.spend)

    def score(self, x: NDArray[np.float32]) -> Scores:
        """As the next step would, with the newest snapshot. Needs a champion."""
        assert isinstance(self._scorer, _Unexplained)  # noqa: S101  (promote comes first)
        newest = self._snapshot
        if newest is None and self.learner is not None:
            newest = self.learner.snapshot()
        return self._scorer.score(x, newest)
