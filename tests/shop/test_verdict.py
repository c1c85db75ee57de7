"""The comparison can fail, and says by name what differs."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest
from rich.console import Console

from tests.shop.facts import Cancelled, Fact, Line, Placed, Returned
from tests.shop.recount import Customer, recount
from tests.shop.truth import Truth, make
from tests.shop.verdict import Check, compare, compare_numbers, lost_and_doubled, show

OPENING_MS = 1_795_305_600_000


@pytest.fixture(scope="module")
def truth() -> Truth:
    return make(60, 600, seed=3, opening_ms=OPENING_MS, monday_seconds=10)


def counted(facts: Iterable[Fact]) -> dict[str, Customer]:
    return recount(facts, lambda user: OPENING_MS)


def failed(expected: Iterable[Fact], got: Iterable[Fact]) -> dict[str, Check]:
    checks = compare(counted(expected), counted(got))
    return {check.what: check for check in checks if not check.holds}


def one_more(truth: Truth) -> Placed:
    user = truth.erased[0]
    return Placed("more", user, OPENING_MS - 1, "more", 990, (Line("sku-1", 1, 990),))


def test_a_recount_equals_itself(truth: Truth) -> None:
    facts = list(truth.files.facts())
    assert not failed(facts, reversed(facts))


def test_verdict_names_the_customer_with_another_number_of_orders(truth: Truth) -> None:
    facts, more = list(truth.files.facts()), one_more(truth)
    found = failed([*facts, more], facts)
    orders = found["orders"]
    assert orders.expected == orders.got + 1
    assert [line.split(":")[0] for line in orders.differs] == [more.user]
    assert found["net revenue"].expected == found["net revenue"].got + 990
    assert {"1h window, counts", "90d window, money"} <= found.keys()
    assert any("orders" in line for line in found["1h window, counts"].differs)
    assert lost_and_doubled(counted([*facts, more]), counted(facts)) == (1, 0)
    assert lost_and_doubled(counted(facts), counted([*facts, more])) == (0, 1)


def test_verdict_names_missing_and_surplus_customers(truth: Truth) -> None:
    facts = list(truth.files.facts())
    fewer = [fact for fact in facts if fact.user != truth.erased[0]]
    assert failed(facts, fewer)["users"].differs == (f"{truth.erased[0]} is missing",)
    assert failed(fewer, facts)["users"].differs == (f"{truth.erased[0]} should not be there",)


@pytest.mark.parametrize("kind", [Cancelled, Returned])
def test_verdict_reports_a_lost_cancellation_or_return(truth: Truth, kind: type[Fact]) -> None:
    facts = list(truth.files.facts())
    paid_back = [f for f in facts if isinstance(f, Cancelled | Returned) and f.cents]
    lost = max((f for f in paid_back if isinstance(f, kind)), key=lambda fact: fact.ts_ms)
    found = failed(facts, [fact for fact in facts if fact != lost])
    assert any(lost.user in line for line in found["net revenue"].differs)
    assert any("refund_cents" in line for line in found["90d window, money"].differs)


def test_verdict_finds_two_differing_customers_whose_sums_agree() -> None:
    one, two = Customer(orders=1), Customer(orders=2)
    checks = compare({"ann": one, "bob": two}, {"ann": two, "bob": one})
    (orders,) = [check for check in checks if check.what == "orders"]
    assert orders.expected == orders.got
    assert not orders.holds


def test_a_view_without_a_customer_or_with_another_number_is_reported() -> None:
    users, orders = compare_numbers("scores_live", {"ann": 1, "bob": 2}, {"bob": 3})
    assert users.differs == ("ann is missing",)
    assert orders.differs == ("bob: 3 and not 2",)


def test_the_table_names_what_differs_and_how_much_more_does() -> None:
    out = io.StringIO()
    wrong = Check("orders", 5, 9, tuple(f"u-{n}: 2 and not 1" for n in range(5)))
    show([wrong, Check("net revenue", 1_250, 1_250, money=True)], Console(file=out, width=100))
    text = out.getvalue()
    assert "u-0: 2 and not 1" in text
    assert "... 2 more" in text
    assert "12.50" in text
