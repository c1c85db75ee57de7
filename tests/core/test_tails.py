"""The last events of each user are what a plain recount of the log says, however events arrive."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.tails import EVENT_KINDS, TAIL_CHANNELS, TAIL_EVENTS
from streams.core.state.tails import Tails
from tests.core.driving import HOUR_MS, T0, Driver, click, order
from tests.core.oracle import DAY_MS, Wire

KIND, GAP, AGE, AMOUNT, CATEGORY, SAME = range(len(TAIL_CHANNELS))
NOW_MS = T0 + 3 * DAY_MS


def driver() -> Driver:
    found = Driver()
    found.state.tails = Tails()
    return found


def tail(driver: Driver, user: str, now_ms: int = NOW_MS) -> np.ndarray:
    state = driver.state
    assert state.tails is not None
    row = [str(u) for u in state.users[np.arange(state.n)]].index(user)
    found: np.ndarray = state.tails.of(state.rows_by_user.hashes[[row]], now_ms)[0]
    return found


def log(n: int, seed: int) -> list[Wire]:
    """Events of two users; some at the same second."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        user, ts = f"u{i % 2}", T0 + int(rng.integers(0, 150)) * 1000 * 60
        kind = str(rng.choice(["view", "search", "support", "review", "placed"]))
        if kind == "placed":
            found.append(order(user, ts, float(rng.integers(1, 100))))
        else:
            more = {"rating": float(rng.integers(1, 6))} if kind == "review" else {}
            category = f"k{rng.integers(0, 3)}" if rng.random() < 0.6 else None
            found.append(click(user, ts, kind, category=category, item_id="i", **more))
    return found


def fed(events: list[Wire], parts: int) -> Driver:
    found = driver()
    for part in np.array_split(np.arange(len(events)), parts):
        some = [events[i] for i in part]
        found.feed(
            [e for e in some if "order_id" not in e], [e for e in some if "order_id" in e],
            clock_ms=NOW_MS,
        )  # fmt: skip
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_it_has_the_newest_events_however_they_arrive(seed: int) -> None:
    events = log(180, seed)
    first = fed(events, 1)
    rng = np.random.default_rng(seed)
    for parts in (3, 20):
        other = fed([events[i] for i in rng.permutation(len(events))], parts)
        for user in ("u0", "u1"):
            assert np.array_equal(tail(first, user), tail(other, user), equal_nan=True)


def test_it_is_what_a_recount_says() -> None:
    events = log(180, 3)
    found = tail(fed(events, 5), "u0")
    mine = sorted((e for e in events if e["user_id"] == "u0"), key=lambda e: int(e["ts"]))
    assert len(mine) > TAIL_EVENTS
    kept = mine[-TAIL_EVENTS:]
    seconds = np.array([e["ts"] // 1000 for e in kept])
    assert np.allclose(found[:, AGE], (NOW_MS / 1000 - seconds) / 86_400, rtol=1e-6)
    assert np.isnan(found[0, GAP])
    assert np.allclose(found[1:, GAP], np.diff(seconds) / 86_400, rtol=1e-5)
    # within a second the order is another: so compare what there is of each
    said = [EVENT_KINDS[int(kind) - 1] for kind in found[:, KIND]]
    assert sorted(said) == sorted(str(e["type"]) for e in kept) or _border(mine)
    placed = found[:, KIND] == 1 + EVENT_KINDS.index("placed")
    assert sorted(found[placed, AMOUNT].tolist()) == sorted(
        e["amount"] for e in kept if e["type"] == "placed"
    ) or _border(mine)
    latest = 0.0
    for row in found:
        same = float(row[CATEGORY] == latest) if row[CATEGORY] and latest else np.nan
        assert row[SAME] == same or np.isnan([row[SAME], same]).all()
        latest = row[CATEGORY] or latest


def _border(events: list[Wire]) -> bool:
    """Whether it is not by time alone which is the oldest that is kept."""
    return bool(events[-TAIL_EVENTS]["ts"] == events[-TAIL_EVENTS - 1]["ts"])


def test_amounts_are_of_orders_and_stars_of_reviews() -> None:
    shop = driver()
    lines = [{"item_id": "i", "amount": 5.0, "category": "k"}]
    shop.feed(
        [click("u", T0, "review", rating=4.5), click("u", T0 + 1000, "review"),
         click("u", T0 + 2000, "view", item_id="i", category="k")],
        [order("u", T0 + HOUR_MS, 12.5, lines=lines)], clock_ms=NOW_MS,
    )  # fmt: skip
    found = tail(shop, "u")
    assert found[0, AMOUNT] == 4.5
    assert np.isnan(found[1:3, AMOUNT]).all()
    assert found[3, AMOUNT] == 12.5
    assert found[3, SAME] == 1.0
    assert (found[4:] == 0.0).all()


def test_what_does_not_count_elsewhere_does_not_count_here() -> None:
    shop = driver()
    event = click("u", T0 + 20 * DAY_MS)
    shop.feed([event], clock_ms=T0 + 20 * DAY_MS)
    shop.feed([event, click("u", T0)], clock_ms=T0 + 20 * DAY_MS)  # a repeat, and one too late
    assert (tail(shop, "u")[:, KIND] > 0).sum() == 1


def test_who_is_parked_keeps_them_and_who_is_erased_does_not() -> None:
    shop = driver()
    shop.feed([], [order("u", T0), order("v", T0)], clock_ms=T0)
    before = tail(shop, "u", NOW_MS)
    for day in range(30, 200, 10):
        shop.feed(clock_ms=T0 + day * DAY_MS, sweep_rows=10)
    assert len(shop.state.parked) == 2
    shop.feed([], [order("u", T0 + 200 * DAY_MS)], clock_ms=T0 + 200 * DAY_MS)
    assert tail(shop, "u")[0, KIND] == before[0, KIND]
    assert (tail(shop, "u")[:, KIND] > 0).sum() == 2
    state = shop.state
    row = int(np.flatnonzero(state.users[np.arange(state.n)] == "u")[0])
    user_hash = state.rows_by_user.hashes[[row]]
    state.drop_user(row)
    assert state.tails is not None
    assert (state.tails.of(user_hash, NOW_MS) == 0.0).all()


def test_no_worker_keeps_them() -> None:
    assert Driver().state.tails is None


def test_who_is_not_known_has_none() -> None:
    assert (Tails().of(np.array([5], np.uint64), NOW_MS) == 0.0).all()
    assert Tails().of(np.empty(0, np.uint64), NOW_MS).shape == (0, TAIL_EVENTS, len(TAIL_CHANNELS))
