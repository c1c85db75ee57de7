"""What a policy says to do: the first row that is true, or the one that gains most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.definitions import Definitions, PolicyRow, SegmentDefinition
from streams.core.rulebook import rulebook_of
from tests.core.driving import T0, Driver, bounded, config, order
from tests.core.oracle import DAY_MS


@dataclass
class Users:
    """Users with so much at stake: p_churn 0.5 of twice as much; `orders` is what rules ask for."""

    at_stake: list[float]
    orders: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.at_stake)

    def number(self, name: str) -> NDArray[np.float64]:
        if name == "orders":
            return np.array(self.orders or [1.0] * self.size)
        stake = np.array(self.at_stake)
        return {"p_churn": np.full(self.size, 0.5), "expected_spend": 2 * stake}[name]

    def code(self, name: str) -> NDArray[Any]:
        raise AssertionError(name)

    def flag(self, name: str) -> NDArray[np.bool_]:
        raise AssertionError(name)

    def rank(self, name: str) -> NDArray[np.float64]:
        raise AssertionError(name)


def actions(rows: list[PolicyRow], users: Users) -> list[str]:
    return rulebook_of(Definitions(1, repr(rows), policy=tuple(rows)), "USD").actions(users)


def test_without_uplift_the_first_true_row_applies_whatever_it_costs() -> None:
    rows = [PolicyRow("orders > 5", "call", cost=90.0), PolicyRow("orders > 2", "coupon")]
    assert actions(rows, Users([1.0] * 3, [6, 3, 1])) == ["call", "coupon", "nothing"]


def test_largest_gain_wins_and_doing_nothing_is_an_action() -> None:
    rows = [PolicyRow("true", "message", 0.5, 0.02), PolicyRow("true", "call", 8.0, 0.2)]
    # gains: -0.3 and -6; 0.5 and 2; 0.3 and 0; 1.5 and 12
    assert actions(rows, Users([10.0, 50.0, 40.0, 100.0])) == ["nothing", "call", "message", "call"]


def test_nothing_has_its_price() -> None:
    rows = [
        PolicyRow("true", "message", 0.5, 0.02),
        PolicyRow("orders > 5", "nothing", cost=1.0),
        PolicyRow("true", "nothing", cost=0.0),
    ]
    # the message gains -0.3: more than a silence that costs 1, less than one for free
    assert actions(rows, Users([10.0, 10.0], [6, 1])) == ["message", "nothing"]


def test_first_of_equal_gains_wins_and_nothing_before_a_gain_of_nothing() -> None:
    two = [PolicyRow("true", "call", 1.0, 0.2), PolicyRow("true", "coupon", 1.0, 0.2)]
    assert actions(two, Users([10.0, 5.0])) == ["call", "nothing"]


def test_rows_without_uplift_count_only_where_no_true_row_has_one() -> None:
    rows = [
        PolicyRow("true", "reminder"),
        PolicyRow("orders > 5", "call", 1.0, 0.2),
    ]
    assert actions(rows, Users([100.0] * 2, [6, 1])) == ["call", "reminder"]


def test_unknown_value_is_worth_no_cost() -> None:
    rows = [PolicyRow("true", "call", 1.0, 0.2), PolicyRow("true", "letter", 0.0, 0.1)]
    assert actions(rows, Users([float("nan")])) == ["nothing"]


@given(data=st.data())
@settings(bounded, max_examples=150)
def test_no_other_true_row_gains_more(data: st.DataObject) -> None:
    money = st.sampled_from([0.0, 0.5, 1.0, 5.0, 20.0])
    rows = [
        PolicyRow(
            data.draw(st.sampled_from(["true", "orders > 2", "orders > 4"])), f"a{i}",
            data.draw(money), data.draw(st.sampled_from([0.0, 0.05, 0.2, 0.5])),
        )
        for i in range(data.draw(st.integers(1, 5)))
    ]  # fmt: skip
    stakes = data.draw(st.lists(money, min_size=1, max_size=6))
    orders = [float(n % 6) for n in range(len(stakes))]
    least = {"true": -1.0, "orders > 2": 2.0, "orders > 4": 4.0}
    for stake, count, action in zip(stakes, orders, actions(rows, Users(stakes, orders)),
                                    strict=True):  # fmt: skip
        gains = {r.action: (r.uplift or 0.0) * stake - r.cost for r in rows
                 if count > least[r.when]}  # fmt: skip
        best = max(gains.values(), default=0.0)
        assert action == "nothing" if best <= 0 else gains[action] == best


@pytest.mark.parametrize("member", [True, False])
def test_policy_may_name_a_segment_of_the_shop(member: bool) -> None:
    driver = Driver(config())
    for day in range(2):
        driver.feed([], [order("u", T0 + day * DAY_MS)])
    regulars = SegmentDefinition("regulars", "orders > 1" if member else "orders > 9")
    policy = (PolicyRow("segment.regulars", "call"), PolicyRow("true", "coupon"))
    driver.define(regulars, clock_ms=T0 + 2 * DAY_MS, policy=policy)
    driver.sweep(T0 + 50 * DAY_MS)
    assert [r["action"] for r in driver.rows("alerts")] == ["call" if member else "coupon"]
