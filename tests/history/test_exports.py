"""Columns that only some exports have: Square's time zones, Stripe's captures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from schemas.errors import SettingsError
from tests.history.conftest import Reader, events, reasons, short

SQUARE = "Date,Time,Time Zone,Total Collected,Transaction ID,Customer ID\n"
NEW_YORK, TOKYO = "Eastern Time (US & Canada)", "Tokyo"


def ms(utc: str) -> int:
    return round(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(("day", "clock", "zone", "utc"), [
    ("03/25/24", "20:30:00", NEW_YORK, "2024-03-26T00:30"),
    ("01/25/24", "20:30:00", NEW_YORK, "2024-01-26T01:30"),
    ("03/25/24", "8:30 AM", TOKYO, "2024-03-24T23:30"),
    ("03/25/24", "08:30:00", "Australia/Perth", "2024-03-25T00:30"),
    ("03/25/24", "08:30:00", "", "2024-03-25T08:30"),
    ("03/25/24", "08:30:00 Z", TOKYO, "2024-03-25T08:30"),
])  # fmt: skip
def test_square_names_the_zone_of_each_row(
    reading: Reader, day: str, clock: str, zone: str, utc: str
) -> None:
    others = f"12/31/23,23:00:00,{TOKYO},$7.00,t0,b\nsoon,1:00,{NEW_YORK},1,bad,b\n"
    history = reading(f"{SQUARE}{day},{clock},{zone},$12.50,t1,a\n{others}")
    assert [(e["order_id"], e["ts"]) for e in events(history)] == [
        ("t0", ms("2023-12-31T14:00")), ("t1", ms(utc))
    ]  # fmt: skip
    assert "in the zones of Time Zone (" in history.report.choices["times"]
    assert sum(reasons(history).values()) == 1


def test_rows_without_a_zone_are_in_the_one_that_was_said(reading: Reader) -> None:
    text = f"{SQUARE}03/25/24,08:30,,5,t1,a\n03/25/24,08:30,{NEW_YORK},5,t2,a\n"
    found = {e["order_id"]: e["ts"] for e in events(reading(text, tz="Europe/Berlin"))}
    assert found == {"t1": ms("2024-03-25T07:30"), "t2": ms("2024-03-25T12:30")}


def test_a_zone_that_is_not_known_is_asked_for(reading: Reader) -> None:
    text = f"{SQUARE}03/25/24,08:30,Atlantis,5,t1,a\n"
    with pytest.raises(SettingsError, match=r"'Atlantis' .* --tz America/New_York"):
        reading(text)
    assert [e["ts"] for e in events(reading(text, tz="Asia/Tokyo"))] == [ms("2024-03-24T23:30")]
    assert [e["ts"] for e in events(reading(text, tz="UTC"))] == [ms("2024-03-25T08:30")]


def test_square_without_zones_asks_for_one_in_a_note(reading: Reader) -> None:
    text = "Date,Gross Sales,Net Sales,Payment ID,Customer ID\n03/25/24,5,5,p1,a\n"
    (note,) = reading(text).report.notes
    assert "--tz" in note
    assert reading(text, tz="Asia/Tokyo").report.notes == ()


def test_the_zone_of_a_customer_is_not_that_of_the_file(reading: Reader) -> None:
    text = f"user,date,total,timezone\na,2024-03-01 10:00,5,{TOKYO}\n"
    assert events(reading(text))[0]["ts"] == ms("2024-03-01T10:00")
    assert events(reading(text, "zone=timezone"))[0]["ts"] == ms("2024-03-01T01:00")


STRIPE = "id,Created (UTC),Amount,Amount Refunded,Customer ID,Status,Captured\n"


@pytest.mark.parametrize(("status", "captured", "found"), [
    ("Paid", "true", [("placed", 10.0)]),
    ("Paid", "", [("placed", 10.0)]),
    ("", "true", [("placed", 10.0)]),
    ("Refunded", "TRUE", [("placed", 10.0), ("returned", 10.0)]),
    ("Paid", "false", "not paid yet"),
    ("", "FALSE", "not paid yet"),
    ("requires_capture", "false", "not paid yet"),
    ("Refunded", "false", "not paid yet"),
    ("Failed", "false", "cancelled, voided or failed"),
])  # fmt: skip
def test_a_charge_that_was_not_captured_is_no_order(
    reading: Reader, status: str, captured: str, found: object
) -> None:
    other = "ch_0,2024-02-28 10:00,7,0,b,,true\n"
    history = reading(f"{STRIPE}{other}ch_1,2024-03-01 10:00,10,0,a,{status},{captured}\n")
    of_a = [(kind, amount) for kind, user, _, amount in short(history) if user == "a"]
    assert ("placed", "b", "ch_0", 7.0) in short(history)
    why = list(reasons(history))
    assert (of_a, why) == (([], [found]) if isinstance(found, str) else (found, []))


def test_captured_is_read_without_a_status_column(reading: Reader) -> None:
    text = ("id,Created (UTC),Amount,Amount Refunded,Customer ID,Captured\n"
            "ch_1,2024-03-01,10,0,a,false\nch_2,2024-03-02,4,0,a,true\n")  # fmt: skip
    history = reading(text)
    assert short(history) == [("placed", "a", "ch_2", 4.0)]
    assert reasons(history) == {"not paid yet": 1}
