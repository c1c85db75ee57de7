"""Rings hold the newest events, whatever came first, and tables say what is in them."""

from __future__ import annotations

import numpy as np

from schemas.tails import TAIL_CHANNELS, TAIL_EVENTS
from streams.kernels.tails import Rings, TailEvents, read_tails, remember_events

Event = tuple[int, int, int, float]


def rings(users: int) -> Rings:
    wide = (users, TAIL_EVENTS)
    return Rings(
        np.zeros(wide, np.uint32), np.zeros(wide, np.uint8), np.zeros(wide, np.uint8),
        np.zeros(wide, np.float32), np.zeros(users, np.int32), np.zeros(users, np.int32),
    )  # fmt: skip


def let_in(to: Rings, ring: np.ndarray, events: list[Event]) -> None:
    second, kind, category, amount = (np.array(column) for column in zip(*events, strict=True))
    remember_events(
        to,
        TailEvents(
            ring.astype(np.int64), second.astype(np.uint32), kind.astype(np.uint8),
            category.astype(np.uint8), amount.astype(np.float32),
        ),
    )  # fmt: skip


def table(of: Rings, ring: int, now_second: float) -> np.ndarray:
    x = np.zeros((1, TAIL_EVENTS, len(TAIL_CHANNELS)), np.float32)
    read_tails(x, of, np.array([ring]), now_second)
    found: np.ndarray = x[0]
    return found


def test_a_ring_holds_the_greatest_events_in_order() -> None:
    rng = np.random.default_rng(1)
    for n in (1, TAIL_EVENTS, 3 * TAIL_EVENTS):
        events = [
            (int(s), int(k), int(c), float(a))
            for s, k, c, a in zip(
                rng.integers(0, 50, n), rng.integers(1, 3, n), rng.integers(0, 2, n),
                rng.integers(0, 3, n), strict=True,
            )
        ]  # fmt: skip
        found = rings(2)
        let_in(found, np.ones(n), events)
        want = sorted(events)[-TAIL_EVENTS:]
        places = (found.first[1] + np.arange(found.filled[1])) % TAIL_EVENTS
        columns = (found.second, found.kind, found.category, found.amount)
        got = list(zip(*(column[1, places].tolist() for column in columns), strict=True))
        assert got == want
        assert found.filled[0] == 0
        seconds = np.array([second for second, *_ in want], float)
        read = table(found, 1, 100.0)
        assert np.allclose(read[: len(want), 2] * 86_400, 100.0 - seconds, atol=1e-3)
        assert (read[len(want) :] == 0.0).all()


def test_an_unknown_amount_comes_first_and_no_event_is_from_the_future() -> None:
    nan = float("nan")
    for order in ([0, 1], [1, 0]):
        events = [(9, 1, 0, nan), (9, 1, 0, 2.0)]
        found = rings(1)
        let_in(found, np.zeros(2), [events[i] for i in order])
        read = table(found, 0, 5.0)
        assert np.isnan(read[0, 3])
        assert read[1, 3] == 2.0
        assert (read[:2, 2] == 0.0).all()


def test_nobody_has_nothing() -> None:
    assert (table(rings(1), -1, 5.0) == 0.0).all()
