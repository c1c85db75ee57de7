"""Rows become orders: what belongs together, what it is worth, what came back, who is nobody."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schemas.errors import SettingsError
from tests.history.conftest import Reader, events, reasons, short

RETAIL = """InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
2,B,Bowl,1,2024-03-02 10:00,5.00,18,UK
1,A,Apple,2,2024-03-01 10:00,1.25,17,UK
1,C,Cup,1,2024-03-01 10:00,0.10,17,UK
3,A,Apple,1,2024-03-03 10:00,1.25,,UK
C1,A,Apple,-1,2024-03-04 10:00,1.25,17,UK
"""


def test_lines_are_grouped_and_sorted_and_a_negative_one_is_a_return(
    reading: Reader, schemas: Any
) -> None:
    history = reading(RETAIL)
    assert history.report.mapping.startswith("user=CustomerID, timestamp=InvoiceDate, price=")
    for block in history:
        for record in block:
            schemas.check(record)
    assert short(history) == [
        ("placed", "17", "1", 2.6), ("placed", "18", "2", 5.0), ("returned", "17", "1", 1.25)
    ]  # fmt: skip
    first = events(history)[0]
    assert [(line["item_id"], line["amount"], line["quantity"]) for line in first["lines"]] == [
        ("A", 2.5, 2.0), ("C", 0.1, 1.0)
    ]  # fmt: skip
    assert first["ts"] == 1_709_287_200_000
    assert reasons(history) == {"no user (guest)": 1}


def test_the_sequence_of_rows_does_not_matter(reading: Reader) -> None:
    head, *rows = RETAIL.splitlines()
    straight = short(reading(RETAIL))
    for seed in range(5):
        random.Random(seed).shuffle(rows)
        assert short(reading("\n".join([head, *rows]))) == straight


def test_the_same_order_id_of_two_users_is_two_orders(reading: Reader) -> None:
    found = events(reading("user,timestamp,amount,order\na,2024-03-01,1,9\nb,2024-03-01,2,9\n"))
    assert len({e["event_id"] for e in found}) == 2


def test_without_order_ids_rows_of_one_time_are_one_order(reading: Reader) -> None:
    text = "who;when;total\nann;1709287200;12,50\nann;1709287200;12,50\nann;1709287201;1\n"
    found = short(reading(text, "user=who,timestamp=when"))
    assert [amount for *_, amount in found] == [25.0, 1.0]


@pytest.mark.parametrize(
    "name", ["total", "order_total", "payment_value", "Grand Total", "total_price"]
)
def test_an_amount_that_all_rows_of_an_order_repeat_is_the_orders(
    reading: Reader, name: str
) -> None:
    text = f"order,user,date,{name}\n1,a,2024-03-01,50\n1,a,2024-03-01,50\n2,b,2024-03-01,10\n"
    assert short(reading(text)) == [("placed", "a", "1", 50.0), ("placed", "b", "2", 10.0)]


def test_an_amount_that_differs_is_a_lines(reading: Reader) -> None:
    text = "order,user,date,total\n1,a,2024-03-01,50\n1,a,2024-03-01,7\n2,b,2024-03-01,10\n"
    assert [amount for *_, amount in short(reading(text))] == [57.0, 10.0]


def test_equal_lines_whose_price_times_quantity_they_are_count_each(reading: Reader) -> None:
    text = ("order,user,date,sku,qty,price,amount\n1,a,2024-03-01,A,2,5,10\n"
            "1,a,2024-03-01,B,1,10,10\n")  # fmt: skip
    assert short(reading(text))[0][3] == 20.0


def test_what_may_be_either_is_asked_for_and_the_answer_is_taken(reading: Reader) -> None:
    rows = [("1", 5), ("1", 5), ("2", 7), ("2", 7), ("3", 7), ("3", 8)]
    text = "order,user,date,amount\n" + "".join(f"{o},a,2024-03-0{o},{v}\n" for o, v in rows)
    with pytest.raises(SettingsError, match="--amount-per order or --amount-per line"):
        reading(text)
    assert [a for *_, a in short(reading(text, amount_per="order"))] == [5.0, 7.0, 7.0]
    assert [a for *_, a in short(reading(text, amount_per="line"))] == [10.0, 14.0, 15.0]


def test_equal_amounts_under_a_name_of_either_are_asked_for_until_there_are_many(
    reading: Reader,
) -> None:
    head = "order,user,date,item,amount\n"
    rows = [f"{o},a,2024-03-{o:02},{item},{o}\n" for o in range(1, 16) for item in "AB"]
    with pytest.raises(SettingsError, match="--amount-per order or --amount-per line"):
        reading(head + "".join(rows[:6]))
    assert reading(head + "".join(rows)).report.revenue == {"": 120.0}


def test_an_explicit_price_beats_a_guessed_amount(reading: Reader) -> None:
    text = "order,user,date,price,quantity,total\n1,a,2024-03-01,10,2,99\n"
    assert short(reading(text))[0][3] == 99.0
    history = reading(text, "price=price")
    assert short(history)[0][3] == 20.0
    assert "amount" not in history.report.mapping


def test_rows_below_belong_to_the_order_above(reading: Reader) -> None:
    text = ("order,user,date,sku,total,status\n1,a,2024-03-01,A,50,paid\n,,,B,,\n"
            "2,b,2024-03-02,C,20,voided\n2,,,D,,\nTotal,,,,70,\n")  # fmt: skip
    history = reading(text)
    assert short(history) == [("placed", "a", "1", 50.0)]
    assert [line["item_id"] for line in events(history)[0]["lines"]] == ["A", "B"]
    assert reasons(history) == {"cancelled, voided or failed": 2, "no user (guest)": 1}


STATUSES = [
    ("paid", 10.0, 0.0), ("wc-completed", 10.0, 0.0), ("Shipped", 10.0, 0.0), ("", 10.0, 0.0),
    ("refunded", 10.0, 10.0), ("wc-refunded", 10.0, 10.0), ("REFUND", 10.0, 10.0),
    ("voided", 0.0, 0.0), ("Canceled", 0.0, 0.0), ("wc-failed", 0.0, 0.0), ("declined", 0.0, 0.0),
    ("pending", 0.0, 0.0), ("on-hold", 0.0, 0.0), ("pending_payment", 0.0, 0.0),
    ("checkout-draft", 0.0, 0.0), ("partially_refunded", 10.0, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("status", "placed", "back"), STATUSES)
def test_a_status_says_whether_an_order_counts(
    reading: Reader, status: str, placed: float, back: float
) -> None:
    text = f"order,user,date,total,status\n0,z,2024-03-01,1,paid\n1,a,2024-03-01,10,{status}\n"
    found = [e for e in short(reading(text)) if e[1] == "a"]
    assert sum(a for kind, *_, a in found if kind == "placed") == placed
    assert sum(a for kind, *_, a in found if kind == "returned") == back


def test_a_status_that_the_user_counts_counts(reading: Reader) -> None:
    text = "order,user,date,total,status\n1,a,2024-03-01,10,Pending\n2,a,2024-03-02,9,paid\n"
    assert len(short(reading(text))) == 1
    assert len(short(reading(text, counted=frozenset(["pending"])))) == 2


def test_words_that_are_no_statuses_are_told_and_a_column_of_them_is_none(reading: Reader) -> None:
    head = "order,user,date,total,status\n1,a,2024-03-01,10,gold\n"
    assert reading(head + "2,a,2024-03-02,1,silver\n").report.notes == ()
    (note,) = reading(head + "2,a,2024-03-02,1,paid\n").report.notes
    assert "gold 1" in note


@pytest.mark.parametrize(("refund", "back"), [("4", 4.0), ("-4", 4.0), ("25", 10.0), ("", 0.0)])
def test_a_refund_is_a_return_of_at_most_the_order(
    reading: Reader, refund: str, back: float
) -> None:
    text = f"order,user,date,total,refunded_amount\n1,a,2024-03-01,10,{refund}\n"
    history = reading(text)
    assert sum(a for kind, *_, a in short(history) if kind == "returned") == back
    assert history.report.revenue == {"": 10.0 - back}


def test_discounts_and_shipping_change_the_amount_and_are_no_products(reading: Reader) -> None:
    text = ("order,user,date,item,amount\n1,a,2024-03-01,Shirt,30\n1,a,2024-03-01,Discount,-5\n"
            "1,a,2024-03-01,Shipping,4.95\n2,a,2024-03-02,Shirt,-30\n2,a,2024-03-02,Shipping,-4.95\n"
            "3,a,2024-03-03,Shirt,30\n3,a,2024-03-03,Hat,-8\n")  # fmt: skip
    history = reading(text)
    assert short(history) == [
        ("placed", "a", "1", 29.95), ("returned", "a", "2", 34.95), ("placed", "a", "3", 30.0),
        ("returned", "a", "3", 8.0),
    ]  # fmt: skip
    first = events(history)[0]
    assert [line["item_id"] for line in first["lines"]] == ["Shirt"]
    assert first["discount"] == 5.0


PLACEHOLDERS = ["", "0", "0.0", "NULL", "null", "NA", "N/A", "nan", "NaN", "None", r"\N", "Guest",
                "-1", "(null)", "#N/A", " 0 ", "undefined"]  # fmt: skip


@pytest.mark.parametrize("word", PLACEHOLDERS)
def test_guests_are_nobody(reading: Reader, word: str) -> None:
    text = f"order,user,date,total\n1,{word},2024-03-01,10\n2,a,2024-03-01,9\n"
    history = reading(text)
    assert [user for _, user, *_ in short(history)] == ["a"]
    assert reasons(history) == {"no user (guest)": 1}


def test_a_user_with_most_orders_is_named_and_left_out_on_request(reading: Reader) -> None:
    rows = [f"{i},walkin,2024-03-01T00:{i:02}:00,{i}" for i in range(30)]
    rows += [f"{i},u{i},2024-03-01T01:{i - 30:02}:00,{i}" for i in range(30, 60)]
    text = "\n".join(["order,user,date,total", *rows])
    assert "--guests walkin" in reading(text).report.notes[0]
    assert reading(text, guests=frozenset(["walkin"])).report.orders == 30


@pytest.mark.parametrize("ids", [["17.0", "18.0"], ["17.00", "18"], ["17", "18"]])
def test_ids_that_became_floats_are_themselves(reading: Reader, ids: list[str]) -> None:
    text = f"user,date,total\n{ids[0]},2024-03-01,1\n{ids[1]},2024-03-02,2\n"
    assert [user for _, user, *_ in short(reading(text))] == ["17", "18"]


def test_ids_that_are_no_floats_stay(reading: Reader) -> None:
    text = "user,date,total\n17.0,2024-03-01,1\nv1.0,2024-03-02,2\n007,2024-03-03,2\n"
    assert [user for _, user, *_ in short(reading(text))] == ["17.0", "v1.0", "007"]


def test_ids_that_lost_digits_are_a_fault(reading: Reader) -> None:
    text = "order,user,date,total\n1,5.00E+12,2024-03-01,1\n2,a,2024-03-02,2\n"
    history = reading(text)
    assert reasons(history) == {"the user id lost digits in a spreadsheet": 1}
    with pytest.raises(SettingsError, match=r"5\.00E"):
        history.report.check()


def test_one_id_per_order_is_said_with_the_column_that_may_be_meant(reading: Reader) -> None:
    rows = [f"o{i},c{i},2024-03-01T00:00:{i:02},5,p{i % 7}" for i in range(40)]
    head = "order_id,customer_id,date,total,customer_number"
    alone = reading("\n".join([head, *rows]), "user=customer_id").report.one_order_each
    assert alone.startswith("40 orders of 40 users: nobody has two. Is customer_id the customer?")
    assert "customer_number (7 values)" in alone
    assert not reading("\n".join([head, *rows]), "user=customer_number").report.one_order_each


def test_a_clickstream_is_refused_and_its_orders_can_be_chosen(reading: Reader) -> None:
    rows = [
        "00:00:00 UTC,view,35.79,u1",
        "00:02:00 UTC,purchase,35.79,u1",
        "00:03:00 UTC,cart,3,u2",
    ]
    text = "event_time,event_type,price,user_id\n" + "".join(f"2019-10-01 {r}\n" for r in rows)
    with pytest.raises(SettingsError, match="--only event_type=purchase"):
        reading(text)
    history = reading(text, only={"event_type": frozenset(["purchase"])})
    assert short(history) == [("placed", "u1", "at-1569888120000", 35.79)]
    with pytest.raises(SettingsError, match="there are: view, purchase, cart"):
        reading(text, only={"event_type": frozenset(["buy"])})
    with pytest.raises(SettingsError, match="--only kind: no such column"):
        reading(text, only={"kind": frozenset(["buy"])})


def test_a_type_column_of_sales_and_returns_is_read(reading: Reader) -> None:
    text = ("user,date,total,type,order\na,2024-03-01,10,sale,1\na,2024-03-02,4,refund,1\n"
            "b,2024-03-01,9,sale,2\nb,2024-03-01,9,cancelled,2\n")  # fmt: skip
    assert short(reading(text)) == [("placed", "a", "1", 10.0), ("returned", "a", "1", 4.0)]


@pytest.mark.parametrize(("cell", "reason"), [("2042-05-01", "in the future"),
                                              ("9999-12-31", "in the future"),
                                              ("1970-01-01", "before 1995"),
                                              ("0001-01-01", "before 1995")])  # fmt: skip
def test_impossible_times_are_counted_and_stretch_nothing(
    reading: Reader, cell: str, reason: str
) -> None:
    text = "user,date,total\n" + "a,2024-03-01,1\nb,2024-03-09,2\n" * 20 + f"a,{cell},3\n"
    history = reading(text)
    ((why, rows),) = reasons(history).items()
    assert why.startswith(reason)
    assert rows == 1
    assert history.report.last_ms == 1_709_942_400_000
    history.report.check()
    with pytest.raises(SettingsError, match=f"line 42: '{cell}'"):
        history.report.check(strict=True)


def test_currencies(reading: Reader) -> None:
    text = ("user,date,total,currency\na,2024-03-01,1,usd\nb,2024-03-01,2,€\nc,2024-03-01,4,$\n"
            "d,2024-03-01,4,Euro\n")  # fmt: skip
    history = reading(text)
    assert history.report.revenue == {"USD": 1.0, "EUR": 2.0, "": 4.0}
    assert reasons(history) == {"its currency is not three letters": 1}


def test_ids_and_lines_keep_to_the_contract(reading: Reader, schemas: Any) -> None:
    rows = [f"1,a,2024-03-01,{'item' * 40}{i},{i % 2 * 2}" for i in range(4_000)]
    text = "\n".join(["order,user,date,item,amount", *rows, f"2,{'u' * 130},2024-03-01,x,1"])
    history = reading(text)
    (record,) = next(iter(history))
    assert schemas.check(record)["amount"] == 4_000.0
    assert reasons(history) == {"user and order id are longer than 120 characters together": 1}


def test_a_share_of_faults_stops_and_says_which_rows(reading: Reader) -> None:
    good = "".join(f"u{i},2024-03-01,1\n" for i in range(50))
    history = reading("user,timestamp,amount\n" + good + "x,yesterday,1\nx\n,2024-03-01,1\n")
    history.report.check()
    with pytest.raises(SettingsError, match=r"(?s)2 of 53 rows can't be .* 1%.*'yesterday'"):
        history.report.check(max_share=0.01)
    assert sorted(reasons(history).values()) == [1, 1, 1]


def test_the_report_is_whole_in_json_and_markdown(reading: Reader) -> None:
    report = reading(RETAIL).report
    found = report.as_dict()
    assert (found["rows"], found["orders"], found["users"], found["returns"]) == (5, 2, 2, 1)
    assert found["revenue"] == {"": 6.35}
    assert found["left_out"][0]["examples"] == ["line 5"]
    assert found["from"] == "2024-03-01T10:00:00+00:00"
    for words in ("mapping: user=CustomerID", "1 rows: no user (guest) (line 5)", "revenue: 6.35"):
        assert words in report.markdown()
