"""A cancelling invoice's lines are returns of the orders that they take back, by the rule."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.history.read import read
from streams.history.table import ReadOptions
from tests.history.conftest import NOW_MS, History, Reader, events, short
from tests.replay.conftest import Schemas

HEAD = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID\n"


def line(invoice: str, item: str, quantity: int, day: int, price: float = 2, who: str = "a") -> str:
    return f"{invoice},{item},Thing,{quantity},2024-03-{day:02} 10:00,{price},{who}"


def returns(history: History) -> list[tuple[str, float]]:
    return [(order, amount) for kind, _, order, amount in short(history) if kind == "returned"]


ORDERS = [line("1", "A", 5, 1), line("2", "A", 3, 2), line("3", "A", 3, 3, price=1),
          line("4", "A", 9, 4, who="b"), line("5", "B", 9, 5), line("6", "A", 9, 9)]  # fmt: skip


@pytest.mark.parametrize(("back", "right"), [
    ([line("C1", "A", -2, 7)], [("2", 4.0)]),  # the newest earlier one
    ([line("C1", "A", -4, 7)], [("1", 8.0)]),  # that has as many
    ([line("C1", "A", -1, 7, price=1)], [("3", 1.0)]),  # at that price
    ([line("C1", "A", -1, 9)], [("6", 2.0)]),  # of the same minute is earlier
    ([line("C1", "A", -10, 9)], [("C1", 20.0)]),  # nothing has as many
    ([line("C1", "C", -1, 9)], [("C1", 2.0)]),
    ([line("C1", "A", -1, 9, price=3)], [("C1", 3.0)]),
    ([line("C1", "B", -1, 4)], [("C1", 2.0)]),  # later is not earlier
    ([line("C1", "A", -1, 9, who="c")], [("C1", 2.0)]),
    ([line("c1", "A", -2, 7), line("C2", "A", -2, 8)], [("2", 4.0), ("1", 4.0)]),  # once only
    ([line("C1", "A", -2, 7), line("C2", "A", -1, 8)], [("2", 4.0), ("2", 2.0)]),
    ([line("7", "A", -1, 10)], [("7", 2.0)]),  # no cancelling invoice
    ([line("CASH", "A", -1, 10)], [("CASH", 2.0)]),
])  # fmt: skip
def test_a_line_takes_back_the_newest_earlier_order_that_has_it(
    reading: Reader, back: list[str], right: list[tuple[str, float]]
) -> None:
    rows = [*ORDERS, *back]
    for seed in range(4):
        history = reading(HEAD + "\n".join(rows))
        assert returns(history) == right
        assert history.report.orders == 6
        random.Random(seed).shuffle(rows)


def test_an_invoice_is_split_by_the_orders_that_it_takes_back(
    reading: Reader, schemas: Schemas
) -> None:
    rows = [line("1", "A", 1, 1), line("1", "B", 1, 1), line("2", "D", 4, 2)]
    rows += [line("C9", item, -n, 3) for item, n in (("A", 1), ("B", 1), ("D", 3), ("E", 2))]
    history = reading(HEAD + "\n".join(rows))
    for block in history:
        for record in block:
            schemas.check(record)
    back = {e["event_id"]: e for e in events(history) if e["type"] == "returned"}
    assert {name: (e["order_id"], e["amount"]) for name, e in back.items()} == {
        "r-a-C9-1": ("1", 4.0), "r-a-C9-2": ("2", 6.0), "r-a-C9": ("C9", 4.0)
    }  # fmt: skip
    assert [p["item_id"] for p in back["r-a-C9-1"]["lines"]] == ["A", "B"]
    assert history.report.revenue == {"": 12.0 - 14.0}
    assert history.report.choices["cancellations"] == (
        "3 lines of cancelling invoices are returns of an earlier order, 1 of none that is in the "
        "file"
    )


def test_lines_of_one_product_in_an_order_count_together(reading: Reader) -> None:
    rows = [
        line("1", "A", 2, 1),
        line("1", "A", 2, 1),
        line("2", "A", 3, 2),
        line("C1", "A", -4, 3),
    ]
    assert returns(reading(HEAD + "\n".join(rows))) == [("1", 8.0)]


def test_an_invoice_that_also_charges_stays_whole(reading: Reader) -> None:
    rows = [line("1", "A", 5, 1), line("C1", "A", -5, 2), line("C1", "M", 1, 2, price=3)]
    assert short(reading(HEAD + "\n".join(rows)))[1:] == [("returned", "a", "C1", 7.0)]


def test_ids_too_long_for_an_event_are_not_joined(reading: Reader) -> None:
    rows = [line("1" * 70, "A", 1, 1), line("C" + "2" * 60, "A", -1, 2)]
    assert returns(reading(HEAD + "\n".join(rows))) == [("C" + "2" * 60, 2.0)]


def test_without_an_earlier_order_there_is_no_link_and_the_report_says_so(reading: Reader) -> None:
    rows = [line("C1", "A", -1, 1), line("1", "A", 1, 2)]
    history = reading(HEAD + "\n".join(rows))
    assert returns(history) == [("C1", 2.0)]
    assert history.report.choices["cancellations"].startswith("0 lines")
    assert "cancellations" not in reading(HEAD + rows[1]).report.choices


LINES = st.tuples(st.booleans(), st.sampled_from("AB"), st.integers(1, 4), st.integers(1, 2))


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.lists(LINES, min_size=1, max_size=25))
def test_the_rule_line_by_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bool, str, int, int]]
) -> None:
    """Each line is an invoice of its own, a day after the last."""
    rows = []
    left: list[tuple[str, str, int, int]] = []
    right = []
    for day, (back, item, quantity, price) in enumerate(lines, 1):
        name = f"C{day}" if back else f"{day}"
        rows.append(line(name, item, -quantity if back else quantity, day, price))
        if not back:
            left.append((name, item, quantity, price))
            continue
        fitting = [x for x in left if x[1] == item and x[3] == price and x[2] >= quantity]
        if fitting:
            taken = fitting[-1]
            left[left.index(taken)] = (*taken[:2], taken[2] - quantity, price)
            name = taken[0]
        right.append((name, float(quantity * price)))
    path = tmp_path_factory.mktemp("invoices") / "orders.csv"
    path.write_text(HEAD + "\n".join(rows))
    history = read(path, ReadOptions(), NOW_MS)
    assert returns(history) == right
