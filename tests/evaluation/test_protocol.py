"""Who is asked when, and that nothing is known before its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import SettingsError
from schemas.events import OrderEvent
from schemas.features import FEATURE_NAMES
from streams.core.events.records import Records
from streams.evaluation.history import History, read_history
from streams.evaluation.measure import next_order_figures, tasks
from streams.evaluation.protocol import labels, plan_protocol
from streams.evaluation.rows import CutRows, cut_rows, training_rows
from streams.replay import completejourney
from streams.replay.records import Block, order_records

DAY_MS = 86_400_000
T0 = 1_577_836_800_000


def block(orders: Sequence[tuple[str, float, float]]) -> Block:
    """Orders as (user, day, amount)."""
    return order_records(
        OrderEvent(
            event_id=f"o{i}", user_id=user, type="placed", ts=T0 + round(day * DAY_MS),
            order_id=f"{i}", amount=amount,
        )
        for i, (user, day, amount) in enumerate(orders)
    )  # fmt: skip


def history(orders: Sequence[tuple[str, float, float]]) -> History:
    return read_history([block(orders)], "USD", {"USD": 1.0})


def test_complete_journey_is_cut_as_agreed() -> None:
    source = completejourney.orders()
    whole = History(
        [], source.household, source.ts_ms, source.cents / 100.0, read_history_records()
    )
    protocol = plan_protocol(whole, 28, 2, None)
    first = completejourney.FIRST_DAY_MS

    days = [(cut - first) // DAY_MS for cut in protocol.test_cuts]
    assert days == list(range(245, 337, 7))
    assert len(days) == 14
    assert [(cut - first) // DAY_MS for cut in protocol.visit_cuts] == list(range(245, 358, 7))
    assert protocol.active_within_days == 84


def read_history_records() -> Records:
    return history([("a", 0, 1.0), ("b", 1, 2.0)]).records


def test_a_short_history_says_what_would_do() -> None:
    short = history([("a", day, 1.0 + day) for day in range(90)] + [("b", 90, 5.0)])
    with pytest.raises(SettingsError, match=r"fewer weekly cuts.*--horizon"):
        plan_protocol(short, 60, 2, None)
    plan_protocol(short, 7, 2, None)  # its advice helps


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 200), st.integers(0, 100)),
        min_size=6, max_size=60,
    ),
    st.floats(30, 150),
    st.integers(1, 40),
)  # fmt: skip
def test_labels_equal_a_recount(
    orders: list[tuple[str, float, int]], cut_day: float, horizon: int
) -> None:
    orders = sorted([*orders, ("a", 0.5, 7), ("b", 0.6, 9), ("c", 0.7, 1)], key=lambda o: o[1])
    known = history([(u, d, float(a)) for u, d, a in orders])
    cut = T0 + round(cut_day * DAY_MS)
    found = labels(known, cut, np.arange(len(known.users)), horizon)
    for i, user in enumerate(known.users):
        mine = [(T0 + round(d * DAY_MS), a) for u, d, a in orders if u == user]

        def between(start: int, end: int, mine: list[tuple[int, int]] = mine) -> list[int]:
            return [a for t, a in mine if start <= t < end]

        after = between(cut, cut + horizon * DAY_MS)
        before = between(cut - 3 * horizon * DAY_MS, cut)
        assert found.churned[i] == (not after)
        assert found.spend[i] == pytest.approx(sum(after))
        assert found.partial[i] == (sum(after) < 0.5 * (sum(before) / 3))
        assert found.visited[i] == bool(between(cut, cut + 7 * DAY_MS))
        assert found.bought_30d[i] == bool(between(cut, cut + 30 * DAY_MS))
        following = [t for t, _ in mine if t >= cut]
        assert known.next_order_ms(cut)[i] == min(following, default=0)


def test_dates_of_the_next_order_are_counted_where_they_can_be_seen() -> None:
    """Cut on day 200 of 300; "a" orders every 3 days, "b" on day 300 only."""
    known = history([("a", d, 1.0 + d) for d in range(0, 300, 3)] + [("b", 300, 1.0)])
    protocol = plan_protocol(known, 28, 2, None)
    cut = protocol.test_cuts[0]
    (rows,) = rows_at(known, [(cut - T0) // DAY_MS])
    expected = {  # days for a and b -> rows counted, of which ordered by then
        (3.5, 5.0): (2, 1), (0.001, 250.0): (1, 0), (np.nan, 8.0): (1, 0), (3.5, np.nan): (1, 1)
    }  # fmt: skip
    for days, (n, came) in expected.items():
        rows.scores["champion/next_order_days"] = np.array(days)
        found = next_order_figures([rows], protocol, known)
        assert (found["n"], found["ordered_by_then"]) == (n, came / n)


def rows_at(known: History, days: list[int]) -> list[CutRows]:
    users = np.arange(len(known.users))
    x = np.zeros((len(users), len(FEATURE_NAMES)), np.float32)
    return [cut_rows(known, T0 + day * DAY_MS, users, x, 28) for day in days]


def test_only_matured_rows_teach() -> None:
    known = history([("a", d, 1.0 + d) for d in range(0, 300, 3)] + [("b", 300, 1.0)])
    cuts = rows_at(known, [50, 57, 64, 71])
    until = T0 + (57 + 28) * DAY_MS

    taught = training_rows(cuts, until_ms=until, horizon_days=28)
    assert taught is not None
    assert sorted(set(taught.as_of_ms.tolist())) == [T0 + d * DAY_MS for d in (50, 57)]
    # of the cut on day 57 the 30 days are not over yet
    bought = taught.more["p_buy_30d"]
    assert np.isnan(bought[taught.as_of_ms == T0 + 57 * DAY_MS]).all()
    assert not np.isnan(bought[taught.as_of_ms == T0 + 50 * DAY_MS]).any()
    later = training_rows(cuts, after_ms=until, until_ms=until + 7 * DAY_MS, horizon_days=28)
    assert later is not None
    assert set(later.as_of_ms.tolist()) == {T0 + 64 * DAY_MS}
    assert training_rows(cuts, until_ms=T0 + 77 * DAY_MS, horizon_days=28) is None


def test_what_comes_later_changes_no_label_that_taught() -> None:
    """The same history with another future gives the same training rows."""
    past = [("a", d, 1.0 + d) for d in range(0, 120, 3)] + [("b", d, 5.0) for d in range(1, 120, 9)]
    past.sort(key=lambda o: o[1])
    one = history([*past, ("a", 121, 9.0), ("b", 300, 1.0)])
    other = history([*past, ("b", 122, 700.0), ("a", 299, 3.0)])
    until = T0 + 120 * DAY_MS
    taught = [
        training_rows(rows_at(h, [50, 64, 92]), until_ms=until, horizon_days=28)
        for h in (one, other)
    ]

    assert taught[0] is not None
    assert taught[1] is not None
    np.testing.assert_array_equal(taught[0].churned, taught[1].churned)
    np.testing.assert_array_equal(taught[0].spend, taught[1].spend)
    for name, label in taught[0].more.items():
        np.testing.assert_array_equal(label, taught[1].more[name])


def test_tasks_need_cuts_with_scores() -> None:
    known = history([("a", d, 1.0 + d) for d in range(0, 300, 3)] + [("b", 300, 1.0)])
    protocol = plan_protocol(known, 28, 2, None)
    with pytest.raises(KeyError):
        tasks([], protocol)


def test_orders_are_those_that_were_sent() -> None:
    known = history([("a", 0, 1.0), ("b", 1.5, 2.0), ("a", 2, 4.0)])
    assert known.orders(T0, T0 + 2 * DAY_MS).tolist() == [1, 1]
    assert known.spend(T0, T0 + 3 * DAY_MS).tolist() == [5.0, 2.0]
    assert [msgspec.json.decode(v or b"")["user_id"] for v in known.records.values] == list("aba")


def test_truth_is_net_as_far_as_it_was_known_at_the_end_of_its_time() -> None:
    told: list[tuple[str, str, Literal["placed", "cancelled", "returned"], float, float]] = [
        ("o1", "a", "placed", 1, 10.0), ("o2", "a", "placed", 2, 20.0),
        ("o3", "b", "placed", 3, 7.0), ("o1", "a", "placed", 3.5, 10.0),
        ("o2", "a", "returned", 4, 5.0),
        ("o3", "a", "cancelled", 4.5, 7.0), ("o1", "a", "cancelled", 6, 10.0),
        ("o2", "a", "placed", 6.5, 24.0), ("o3", "b", "returned", 7, 99.0),
    ]  # fmt: skip
    sent = order_records(
        OrderEvent(
            event_id=f"e{i}", user_id=user, type=kind, ts=T0 + round(day * DAY_MS),
            order_id=order, amount=amount,
        )
        for i, (order, user, kind, day, amount) in enumerate(told)
    )  # fmt: skip
    known = read_history([sent], "USD", {"USD": 1.0})
    ends = [T0 + day * DAY_MS for day in (4, 5, 7, 8)]
    assert [known.orders(T0, end).tolist() for end in ends] == [[2, 1], [2, 1], [1, 1], [1, 1]]
    spend = [known.spend(T0, end).tolist() for end in ends]
    assert spend == [[34.0, 7.0], [29.0, 7.0], [19.0, 7.0], [19.0, 0.0]]
    assert known.next_order_ms(T0).tolist() == [T0 + 2 * DAY_MS, T0 + 3 * DAY_MS]
    then = known.before(ends[1])
    assert then.amount.tolist() == [10.0, 19.0, 7.0]
    assert known.before(ends[3]).user.tolist() == [0, 1]
