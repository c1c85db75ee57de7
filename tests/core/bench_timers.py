"""How long a shard of a million users takes to notice that somebody's time has come.

    python -m tests.core.bench_timers [USERS]

Prints the time of a step that looks for due users and finds none, a few, and 4,000 of them; and of
the sweep of everybody that follows when definitions are applied.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from schemas.definitions import Audience, Definitions, SegmentDefinition
from streams.core.features import DAY_MS
from streams.core.memberships import TIMER_MS
from streams.core.texts import Texts
from tests.core.driving import T0, Driver, config

_LIMIT_DAYS = 30
_SLICE = 4_000


def _shop(users: int) -> Driver:
    """Users with one order each, at seconds that are spread over 20 days."""
    driver = Driver(config(sweep_interval_ms=DAY_MS))
    state = driver.state
    rng = np.random.default_rng(1)
    for first in range(0, users, 50_000):
        names = [f"user-{i}" for i in range(first, min(users, first + 50_000))]
        rows = state.rows_of(Texts.of(names))
        at_ms = T0 + rng.integers(0, 20 * 86_400, len(rows)) * 1000
        c = state.columns
        c.orders[rows], c.revenue_cents[rows] = 1, 5_000
        c.first_order_ms[rows] = c.recent_orders_ms[rows, 0] = c.last_activity_ms[rows] = at_ms
        c.last_seen_ms[rows, -3] = c.first_seen_ms[rows] = at_ms
    state.meta.clock_ms = T0 + 20 * DAY_MS
    return driver


def _timed(step: Callable[[], object], times: int = 1) -> float:
    """Median milliseconds."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        step()
        found.append(1000 * (time.perf_counter() - started))
    return statistics.median(found)


def main(users: int) -> None:
    driver = _shop(users)
    state = driver.state
    now_ms = state.meta.clock_ms
    new = Definitions(
        1, "bench",
        (SegmentDefinition("quiet", f"days_since_order > {_LIMIT_DAYS}d"),),
        audiences=(Audience("quiet", "quiet", "bench/1", 0.1),),
    )  # fmt: skip
    driver.feed(clock_ms=now_ms, definitions=new)
    started = time.perf_counter()
    steps = 0
    while True:
        driver.feed(clock_ms=now_ms, sweep_rows=_SLICE)
        driver.outputs.clear()
        driver.log.clear()
        steps += 1
        if not state.meta.sweep_row:
            break
    swept = time.perf_counter() - started
    print(f"{users:,} users; a sweep of everybody by new definitions: {swept:.1f} s, {steps} steps")
    state.meta.rules_due_ms = now_ms
    print(f"a look that finds nobody: {_timed(lambda: driver.wake(now_ms), 7):.1f} ms")
    first_ms = int(state.columns.rules_due_ms[: state.n].min())
    late, each = [], []
    for second in range(60):
        at_ms = first_ms + second * TIMER_MS
        before = len(driver.outputs)
        each.append(_timed(lambda: driver.wake(at_ms)))  # noqa: B023
        for out in driver.outputs[before:]:
            changes = out.tables.get("segment_changes")
            if changes is not None:
                entered = np.array(list(changes["dimension"])) == "quiet"
                names = list(changes["user_id"])
                whose = [names[i] for i in np.flatnonzero(entered).tolist()]
                rows, _ = state.rows_by_user.rows_of(Texts.of(whose))
                limit_ms = state.columns.recent_orders_ms[rows, 0] + _LIMIT_DAYS * DAY_MS
                late += (changes["changed_at"][entered] - limit_ms).tolist()
    print(
        f"a look that finds {len(late) / 60:.1f} people: {statistics.median(each):.1f} ms; "
        f"they entered {max(late) / 1000:.1f} s after their limit at the most"
    )
    driver.outputs.clear()
    far_ms = T0 + 60 * DAY_MS
    found_ms = _timed(lambda: driver.feed(clock_ms=far_ms, wake_rows=_SLICE), 5)
    print(f"a look that finds {_SLICE:,}: {found_ms:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
