"""A guest's e-mail address says who it is, and nobody becomes two customers by it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.history.read import read
from streams.history.table import ReadOptions
from tests.history.conftest import NOW_MS, History, Reader, events, reasons, short

WOO = "order_id,customer_id,billing_email,date_created,order_total,status\n"
ROWS = [
    "1,17,Ann@x.org,2024-03-01,10,wc-completed", "2,0,ann@X.org ,2024-03-02,20,wc-completed",
    "3,0,bob@x.org,2024-03-03,30,wc-completed", "4,,BOB@x.org,2024-03-04,40,wc-completed",
    "5,0,,2024-03-05,50,wc-completed", "6,0,no address,2024-03-06,60,wc-completed",
    "7,17,ann@new.org,2024-03-07,70,wc-completed", "8,0,ann@new.org,2024-03-08,80,wc-completed",
    "9,0,cy@x.org,2024-03-09,90,wc-failed",
]  # fmt: skip
USERS = {"1": "17", "2": "17", "3": "bob@x.org", "4": "bob@x.org", "7": "17", "8": "17"}


def users(history: History) -> dict[str, str]:
    return {order: user for _, user, order, _ in short(history)}


def test_guests_are_customers_by_e_mail_and_registered_ones_keep_their_id(reading: Reader) -> None:
    rows = list(ROWS)
    for seed in range(5):
        history = reading(WOO + "\n".join(rows))
        assert users(history) == USERS
        assert (
            history.report.choices["guests"]
            == "4 guest rows are customers by e-mail (billing_email)"
        )
        assert reasons(history) == {"no user (guest)": 2, "cancelled, voided or failed": 1}
        assert history.report.users == 2
        random.Random(seed).shuffle(rows)


def test_a_user_column_that_was_said_is_the_only_one(reading: Reader) -> None:
    history = reading(WOO + "\n".join(ROWS), "user=customer_id")
    assert users(history) == {"1": "17", "7": "17"}
    assert reasons(history)["no user (guest)"] == 6
    assert "guests" not in history.report.choices
    assert "email" not in history.report.mapping
    both = reading(WOO + "\n".join(ROWS), "user=customer_id,email=billing_email")
    assert users(both) == USERS


def test_an_address_of_two_customers_does_not_say_whose_the_order_is(reading: Reader) -> None:
    rows = [f"{i},{who},shop@x.org,2024-03-0{i},1," for i, who in enumerate([17, 18, 0], 1)]
    history = reading(WOO + "\n".join(rows))
    assert users(history) == {"1": "17", "2": "18"}
    assert reasons(history) == {"no user (guest), and its e-mail is that of several customers": 1}
    assert history.report.left_out[0].examples == ("line 4",)


@pytest.mark.parametrize("column", ["Customer Email", "Email", "Billing Email", "buyer-email"])
def test_any_usual_name_of_the_column_will_do(reading: Reader, column: str) -> None:
    text = f"order,customer_id,date,total,{column}\n1,0,2024-03-01,5,a@x.org\n2,b,2024-03-02,6,\n"
    assert users(reading(text)) == {"1": "a@x.org", "2": "b"}


def test_an_order_has_one_customer_whichever_row_says_who(reading: Reader) -> None:
    text = ("order_id,customer_id,billing_email,date,sku,line_total\n1,17,,2024-03-01,A,5\n"
            "1,0,ann@x.org,2024-03-01,B,6\n2,0,ann@x.org,2024-03-02,A,5\n2,,,2024-03-02,B,6\n"
            ",0,bob@x.org,2024-03-03,A,1\n,,,,B,2\n")  # fmt: skip
    found = [(user, amount) for _, user, _, amount in short(reading(text))]
    assert found == [("17", 11.0), ("17", 11.0), ("bob@x.org", 3.0)]


def test_an_address_that_is_an_id_is_that_customers(reading: Reader) -> None:
    text = ("order,user,billing_email,date,total\n1,Ann@x.org,,2024-03-01,5\n"
            "2,,ann@x.org,2024-03-02,6\n")  # fmt: skip
    assert users(reading(text)) == {"1": "Ann@x.org", "2": "Ann@x.org"}


def test_a_shops_own_address_for_guests_can_be_named(reading: Reader) -> None:
    history = reading(WOO + "\n".join(ROWS), guests=frozenset(["bob@x.org"]))
    assert users(history) == {o: u for o, u in USERS.items() if u == "17"}


IDS = st.sampled_from(["0", "", "17", "18", "19"])
ADDRESSES = st.sampled_from(["", "a@x.org", "A@x.org", "b@x.org", "c@x.org", "n/a"])


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.lists(st.tuples(IDS, ADDRESSES), min_size=1, max_size=12))
def test_nobody_is_two_customers(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    """Against the three rules, row by row."""
    path: Path = tmp_path_factory.mktemp("guests") / "orders.csv"
    path.write_text(
        WOO.replace("\n", "") + "\n"
        + "".join(f"{i},{u},{e},2024-03-01,1,paid\n" for i, (u, e) in enumerate(rows))
    )  # fmt: skip
    owners: dict[str, set[str]] = {}
    for who, email in rows:
        if who not in ("", "0"):
            owners.setdefault(email.lower(), set()).add(who)
    right = {}
    for i, (who, email) in enumerate(rows):
        known = owners.get(email.lower(), {email.lower()})
        if who not in ("", "0"):
            right[str(i)] = who
        elif "@" in email and len(known) == 1:
            right[str(i)] = next(iter(known))
    found = read(path, ReadOptions(given={"user": "customer_id", "email": "billing_email"}), NOW_MS)
    assert {e["order_id"]: e["user_id"] for e in events(found)} == right
