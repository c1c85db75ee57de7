"""Drives one shard by hand: records from events, plans, a simple scorer, a whole run of a log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.definitions import Definitions, SegmentDefinition
from schemas.features import FEATURE_NAMES
from schemas.messages import JournalledSnapshot, LearnerSnapshot
from streams.core.config import CoreConfig
from streams.core.events.events import DecodeRules
from streams.core.events.records import SOURCES, Records
from streams.core.plan import Clock, Pending, Plan, next_plan
from streams.core.state.open_questions import OpenQuestions
from streams.core.state.shard_state import Meta, ShardState
from streams.core.step import Outputs, step
from tests.core.oracle import DAY_MS, Wire

HOUR_MS = 3_600_000
T0 = 1_600_041_600_000  # 2020-09-14 00:00 UTC: a day, hour and five-minute border
FOREVER = 2**62
RATES = {"USD": 1.0, "EUR": 1.08, "JPY": 0.0065}

bounded = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # a seed does not shrink
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
"""Hypothesis settings of these tests: the same examples in every run."""


def drawn(
    quick: int, full: int, **strategies: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of `given` examples that costs many steps: `quick` of them in `make test`, and `full`,
    which begin with the same, in `make faults`."""

    def made(check: Callable[..., None]) -> Callable[..., None]:
        @pytest.mark.parametrize("examples", [quick, pytest.param(full, marks=pytest.mark.full)])
        def test(examples: int) -> None:
            settings(bounded, max_examples=examples)(given(**strategies)(check))()

        test.__name__, test.__doc__, test.__module__ = (
            check.__name__,
            check.__doc__,
            check.__module__,
        )
        return test

    return made


def config(**changes: Any) -> CoreConfig:
    rules = DecodeRules(
        max_future_ms=changes.pop("max_future_ms", 300_000), currency="USD", rates=RATES
    )
    values: dict[str, Any] = {
        "topics": ("clicks", "orders"),
        "decode": rules,
        "lateness_ms": 7 * DAY_MS,
        "sweep_interval_ms": DAY_MS,
        "alert_enter": 0.5,
        "alert_leave": 0.35,
        "alert_overdue_ratio": 1.0,
        "alert_cooldown_ms": 14 * DAY_MS,
        "min_orders": 2,
        "active_within_ms": 84 * DAY_MS,
        "holdout_share": 0.1,
        "sample_share": 0.3,
        "keep_examples": True,
        "keep_events_days": 30,
        "keep_features_days": 30,
    }
    return CoreConfig(**(values | changes))


def feature(x: NDArray[np.float32], name: str) -> NDArray[np.float32]:
    column: NDArray[np.float32] = x[:, FEATURE_NAMES.index(name)]
    return column


@dataclass(frozen=True)
class FakeScores:
    p_churn: NDArray[np.float32]
    p_champion: NDArray[np.float32]
    p_learner: NDArray[np.float32]
    spend: NDArray[np.float32]


@dataclass(frozen=True)
class FakeForecast:
    p_buy_7d: NDArray[np.float32]
    p_buy_30d: NDArray[np.float32]
    next_order_days: NDArray[np.float64]


@dataclass(frozen=True)
class FakeLongValue:
    value: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@dataclass(frozen=True)
class SilenceScorer:
    """p rises by 1/60 a day of silence and falls by 0.1 a view of today; spend is that of 90 days.

    A learner snapshot adds its intercept to p. Row by row, no randomness.
    """

    horizon_days: int = 28
    champion_version: str = "fake-1"
    min_orders: int = 1
    long_seen_days: int = 180

    @property
    def typical(self) -> NDArray[np.float32]:
        """Silent for half as long as makes p 1."""
        return np.array([30.0 * (name == "days_since_order") for name in FEATURE_NAMES], np.float32)

    def covers(self, orders: NDArray[np.integer]) -> NDArray[np.bool_]:
        """As a champion without models of other bands."""
        enough: NDArray[np.bool_] = orders >= max(1, self.min_orders)
        return enough

    def score(self, x: NDArray[np.float32], learner: LearnerSnapshot | None) -> FakeScores:
        silence, views = feature(x, "days_since_order"), feature(x, "view_24h")
        p = np.clip(silence / np.float32(60) - views * np.float32(0.1), 0, 1).astype(np.float32)
        shift = np.float32(learner.intercept if learner else 0)
        learned = np.clip(p + shift, 0, 1).astype(np.float32)
        return FakeScores(learned, p, learned, feature(x, "revenue_90d") + np.float32(0))

    def spend_interval(
        self,
        orders: NDArray[np.integer],
        p_churn: NDArray[np.float32],
        spend: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Half and double."""
        return spend / np.float32(2), spend * np.float32(2)

    def forecast(self, x: NDArray[np.float32]) -> FakeForecast:
        """Orders come as far apart as the last one is away; nobody waits for over 100 days."""
        days = feature(x, "days_since_order").astype(np.float64)
        p = np.exp(-days / 30.0).astype(np.float32)
        return FakeForecast(p / np.float32(4), p, np.where(days > 100, np.nan, 1.0 + days))

    def long_value(self, x: NDArray[np.float32]) -> FakeLongValue:
        """Four times what came in 90 days; unknown of visitors. Half and double."""
        value = feature(x, "revenue_90d") * np.float32(4 if self.long_seen_days else np.nan)
        value = np.where(feature(x, "lifetime_orders") > 0, value, np.float32(np.nan))
        return FakeLongValue(value, value / np.float32(2), value * np.float32(2))

    def reasons(
        self, x: NDArray[np.float32], learner: LearnerSnapshot | None = None
    ) -> Sequence[Sequence[str]]:
        return [[f"{days:.0f} days without an order"] for days in feature(x, "days_since_order")]


def record(event: Wire, at_ms: int | None = None) -> tuple[bytes | None, bytes | None, int]:
    """(key, value, timestamp) of a wire event; the timestamp is event time unless given."""
    value = json.dumps(event).encode()
    return event["user_id"].encode(), value, event["ts"] if at_ms is None else at_ms


def to_records(
    rows: Sequence[tuple[bytes | None, bytes | None, int]], first_offset: int = 0
) -> Records:
    return Records.of(
        np.arange(first_offset, first_offset + len(rows), dtype=np.int64),
        np.array([at for _, _, at in rows], np.int64),
        [key for key, _, _ in rows],
        [value for _, value, _ in rows],
    )


_IDS = iter(range(10**9))


def click(user: str, ts: int, type: str = "view", **fields: Any) -> Wire:
    return {"event_id": f"c{next(_IDS)}", "user_id": user, "type": type, "ts": ts, **fields}


def order(user: str, ts: int, amount: float = 10.0, type: str = "placed", **fields: Any) -> Wire:
    number = next(_IDS)
    return {
        "event_id": f"o{number}",
        "order_id": f"order-{number}",
        "user_id": user,
        "type": type,
        "ts": ts,
        "amount": amount,
        **fields,
    }


@dataclass
class Driver:
    """One shard, fed by hand; keeps what went in and came out."""

    config: CoreConfig = field(default_factory=config)
    scorer: Any = field(default_factory=SilenceScorer)
    state: ShardState = field(default_factory=lambda: ShardState(3, len(FEATURE_NAMES)))
    outputs: list[Outputs] = field(default_factory=list)
    log: list[tuple[Plan, tuple[Records, Records]]] = field(default_factory=list)

    def feed(
        self,
        clicks: Iterable[Wire] = (),
        orders: Iterable[Wire] = (),
        *,
        clock_ms: int = 0,
        sweep_rows: int = 0,
        at_ms: int | None = None,
        learner: JournalledSnapshot | None = None,
        **plan: Any,
    ) -> Outputs:
        """One step of these events. `at_ms` is the records' timestamp, else each event's own."""
        rows = [[record(e, at_ms) for e in events] for events in (clicks, orders)]
        return self.feed_rows(
            rows[0], rows[1], clock_ms=clock_ms, sweep_rows=sweep_rows, learner=learner, **plan
        )

    def feed_rows(
        self,
        clicks: Sequence[tuple[bytes | None, bytes | None, int]],
        orders: Sequence[tuple[bytes | None, bytes | None, int]],
        *,
        clock_ms: int = 0,
        sweep_rows: int = 0,
        learner: JournalledSnapshot | None = None,
        **more: Any,
    ) -> Outputs:
        start = tuple(self.state.meta.offsets)
        records = to_records(clicks, start[0]), to_records(orders, start[1])
        plan = Plan(
            seq=self.state.meta.seq + 1,
            start=(start[0], start[1]),
            stop=(start[0] + len(clicks), start[1] + len(orders)),
            clock_ms=clock_ms,
            sweep_rows=sweep_rows,
            learner=learner,
            **more,
        )
        return self.run(plan, records)

    def run(self, plan: Plan, records: tuple[Records, Records]) -> Outputs:
        outputs = step(self.state, plan, records, self.config, self.scorer)
        self.outputs.append(outputs)
        self.log.append((plan, records))
        return outputs

    def sweep(self, clock_ms: int) -> Outputs:
        """Every user, at this time."""
        return self.feed(clock_ms=clock_ms, sweep_rows=max(1, self.state.sweep_places))

    def define(self, *segments: SegmentDefinition, clock_ms: int, **more: Any) -> Outputs:
        """Take these definitions, and look at every user by them, at this time."""
        number = self.state.meta.rules_taken + 1
        new = Definitions(number, f"v{number}", segments, **more)
        self.feed(clock_ms=clock_ms, definitions=new)
        return self.sweep(clock_ms)

    def wake(self, clock_ms: int) -> Outputs:
        """The users whose time has come by then."""
        return self.feed(clock_ms=clock_ms, wake_rows=1_000)

    def open_questions(self) -> list[OpenQuestions]:
        """The open label questions, a part for each horizon."""
        return [queue.everything() for queue in self.state.questions.by_horizon.values()]

    def column(self, name: str, user: str) -> Any:
        row = self.state.rows_by_user.get(user)
        if row is None:
            parked, rows = self.state.parked.everyone(self.state.meta.horizon_since)
            return rows[name][parked.index(user)]
        return getattr(self.state.columns, name)[row]

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All rows so far of one table, as dicts."""
        return [row for out in self.outputs for row in table_rows(out.tables.get(table))]


def table_rows(table: dict[str, Any] | None) -> list[dict[str, Any]]:
    if table is None:
        return []
    lengths = {len(values) for values in table.values()}
    assert len(lengths) == 1, f"columns of different lengths: {lengths}"
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


def encode(outputs: Outputs) -> bytes:
    """Outputs as bytes, so that two runs compare bit for bit."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if value.dtype == object:
                return [str(v) for v in value]
            return [value.dtype.str, value.tobytes()]
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(type(value))

    return msgspec.msgpack.encode(outputs, enc_hook=plain)


def pending(
    rows: Sequence[tuple[bytes | None, bytes | None, int]], first: int, caught_up: bool
) -> Pending:
    return Pending(
        np.arange(first, first + len(rows), dtype=np.int64),
        np.array([at for _, _, at in rows], np.int64),
        caught_up,
    )


def run_log(
    driver: Driver,
    topics: Sequence[Sequence[tuple[bytes | None, bytes | None, int]]],
    *,
    clock: Clock = "event",
    wall_ms: Callable[[], int] = lambda: 0,
    fetched: Callable[[], int] = lambda: FOREVER,
    max_records: int = 1_000,
    max_steps: int = 20_000,
    definitions: Callable[[], Definitions | None] = lambda: None,
    check: Callable[[Meta, tuple[Pending, Pending], Plan | None], None] = lambda *_: None,
) -> None:
    """The engine's loop without the engine: plans and steps until the log is processed.

    `fetched` says how many more records of a topic have come in at each turn; `check` sees every
    decision before it is carried out.
    """
    here = [0, 0]
    for _ in range(max_steps):
        for s in SOURCES:
            here[s] = min(len(topics[s]), here[s] + fetched())
        meta = driver.state.meta
        waiting = [
            pending(
                topics[s][meta.offsets[s] : here[s]], meta.offsets[s], here[s] == len(topics[s])
            )
            for s in SOURCES
        ]
        plan = next_plan(
            meta,
            (waiting[0], waiting[1]),
            clock=clock,
            wall_ms=wall_ms(),
            sweep_interval_ms=driver.config.sweep_interval_ms,
            max_records=max_records,
            users=driver.state.sweep_places,
            definitions=definitions(),
        )
        check(meta, (waiting[0], waiting[1]), plan)
        if plan is None:
            if here == [len(t) for t in topics]:
                return
            continue
        taken = [
            to_records(topics[s][plan.start[s] : plan.stop[s]], plan.start[s]) for s in SOURCES
        ]
        driver.run(plan, (taken[0], taken[1]))
    raise AssertionError(f"no end after {max_steps} steps: {driver.state.meta}")
