"""Times and numbers are read by whole columns: settled by them, shown, or asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import SettingsError
from streams.history.numbers import read_numbers
from streams.history.times import TimeRules, read_times, zone
from tests.history.conftest import NOW_MS

WHEN = 1_709_287_200_000  # 2024-03-01T10:00Z
ORDERS = {"day-first": "%d/%m/%Y", "month-first": "%m/%d/%Y"}


def times(*cells: Any, tz: str | None = None, **rules: Any) -> tuple[list[int | None], str]:
    found = read_times("date", pa.array(list(cells)), TimeRules(NOW_MS, zone(tz), **rules))
    gone = (found.blank | found.unreadable).tolist()
    return [None if g else ms for g, ms in zip(gone, found.ms.tolist(), strict=True)], found.read_as


ONE_MOMENT = [
    ("2024-03-01T10:00:00Z", None), ("2024-03-01 10:00", None), ("2024/03/01 10:00:00", None),
    ("2024-03-01 10:00:00 UTC", None), ("2024-03-01 05:00:00 -0500", None),
    ("2024-03-01T11:00+01:00", "Asia/Tokyo"), ("2024-03-01 11:00", "Europe/Berlin"),
    ("2024-03-01 10:00:00.000000", None), ("1709287200", None), ("1709287200000", "Asia/Tokyo"),
    ("1709287200000000", None), ("1709287200000000000", None), ("1709287200.0", None),
    ("1.7092872e9", None), ("45352.4166666667", None), ("20240301100000", None),
    ("202403011000", None), ("20240301T100000Z", None), ("20240301 100000", None),
    ("Mar 1, 2024 10:00 AM", None), ("1 March 2024 10:00", None), ("01-Mar-24 10:00:00", None),
    ("Fri, 01 Mar 2024 10:00:00 +0000", None), ("01.03.2024 10:00", None),
    ("Fri Mar 01 2024 10:00:00 GMT+0000 (Coordinated Universal Time)", None),
    ("1. März 2024 10:00", None), ("2024-03-01T10:00:00,000Z", None),
    ("2024-03-01 5:00 AM EST", None),
]  # fmt: skip


@pytest.mark.parametrize(("cell", "tz"), ONE_MOMENT)
def test_one_moment_however_it_is_written(cell: str, tz: str | None) -> None:
    assert times(cell, tz=tz)[0] == [WHEN]
    assert times(cell, None, "2023-01-31T00:00Z", tz=tz)[0][:2] == [WHEN, None]  # not alone


@pytest.mark.parametrize("cell", [1_709_287_200, 1_709_287_200_000, 1_709_287_200_000_000,
                                  1709287200.0, datetime(2024, 3, 1, 10),
                                  datetime(2024, 3, 1, 10, tzinfo=UTC)])  # fmt: skip
def test_typed_cells(cell: Any) -> None:
    assert times(cell)[0] == [WHEN]


@pytest.mark.parametrize("cell", ["soon", "2024-02-30", "0000-00-00 00:00:00", "31.04.2024", "12",
                                  "2024-03-01 25:00", "1 Foo 2024", "2024-03-01 10:00 QQQ", "1e300",
                                  "-5"])  # fmt: skip
def test_what_is_no_time_is_none(cell: str) -> None:
    assert times(cell, "2024-03-01")[0][0] is None


def test_a_time_format_is_the_only_one_then() -> None:
    assert times("01/03/24 1000", "2024-03-01", pattern="%d/%m/%y %H%M")[0] == [WHEN, None]


@settings(max_examples=60, derandomize=True, deadline=None, database=None)
@given(st.lists(st.datetimes(datetime(2001, 1, 1), datetime(2025, 12, 31)), min_size=1,
                max_size=30), st.sampled_from(sorted(ORDERS)))  # fmt: skip
def test_dates_are_read_right_or_asked_for(days: list[datetime], order: str) -> None:
    cells = [day.strftime(ORDERS[order]) for day in days]
    right = [int(datetime(d.year, d.month, d.day, tzinfo=UTC).timestamp() * 1000) for d in days]
    assert times(*cells, dates=order)[0] == right
    settled = any(day.day > 12 for day in days) or all(day.day == day.month for day in days)
    if settled:
        assert times(*cells)[0] == right
    else:
        with pytest.raises(SettingsError, match="--dates day-first or --dates month-first"):
            times(*cells)


def test_the_order_of_dates_is_shown() -> None:
    assert times("25/12/2023", "01/02/2024")[1] == "day-first dates"
    assert times("12/25/2023", "01/02/2024")[1] == "month-first dates"
    assert times("24/03/01", "24/03/31")[1] == "year-first dates"


def test_dates_in_two_orders_are_asked_about() -> None:
    with pytest.raises(SettingsError, match="in more than one order"):
        times("13/01/2024", "01/13/2024")


def test_a_mistyped_date_does_not_unsettle_the_others() -> None:
    cells = [f"{d:02}/01/2024" for d in range(1, 32)] * 3
    found, read_as = times(*cells, "01/32/2024")
    assert read_as == "day-first dates"
    assert found[-1] is None
    assert None not in found[:-1]


@pytest.mark.parametrize(("local", "utc"), [
    ("2024-07-01 12:00", "2024-07-01T10:00"), ("2024-01-01 12:00", "2024-01-01T11:00"),
    ("2024-03-31 02:30", "2024-03-31T01:30"), ("2024-10-27 02:30", "2024-10-27T00:30"),
])  # fmt: skip
def test_a_zone_has_its_summer_time(local: str, utc: str) -> None:
    right = int(datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp() * 1000)
    assert times(local, tz="Europe/Berlin")[0] == [right]


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(SettingsError, match="Atlantis"):
        zone("Europe/Atlantis")


def numbers(*cells: Any, **said: Any) -> list[float | None]:
    found = read_numbers({"total": pa.array(list(cells))}, **said)["total"]
    return [None if v != v else v for v in found.values.tolist()]  # noqa: PLR0124  (NaN)


@pytest.mark.parametrize(("cells", "values"), [
    (["12.50", "3", "-4"], [12.5, 3.0, -4.0]),
    (["12,50", "3"], [12.5, 3.0]),
    (["2,059", "45.20"], [2059.0, 45.2]),
    (["2.059", "45,20"], [2059.0, 45.2]),
    (["1,234,567", "1.5"], [1234567.0, 1.5]),
    (["1.234.567,89"], [1234567.89]),
    (["1 234,50", "1\u00a0234,50", "1\u202f234,5"], [1234.5, 1234.5, 1234.5]),
    (["1'234.50"], [1234.5]),
    (["1,23,456.00"], [123456.0]),
    (["$1,234.50", "-$3", "$-3", "($12.50)"], [1234.5, -3.0, -3.0, -12.5]),
    (["€ 12,50", "12,50 €", "EUR 7,25", "3,5 kr"], [12.5, 12.5, 7.25, 3.5]),
    (["12.50-", "\u221212.50"], [-12.5, -12.5]),
    (["1e3", "2.5E-1"], [1000.0, 0.25]),
    (["0.125", "3"], [0.125, 3.0]),
    (["1.5", None, "", "NULL"], [1.5, None, None, None]),
    (["1.5", "abc", "1.2.3.4", "99999999999", "12..5"], [1.5, None, None, None, None]),
    ([1.234, 5.0], [1.234, 5.0]),
])  # fmt: skip
def test_numbers(cells: list[Any], values: list[float | None]) -> None:
    assert numbers(*cells) == values


@pytest.mark.parametrize("cells", [["1.234"], ["1,234"], ["2,059", "17"], ["1.250", "2.500"]])
def test_a_sign_that_nothing_settles_is_asked_for(cells: list[str]) -> None:
    with pytest.raises(SettingsError, match="--decimal point or --decimal comma"):
        numbers(*cells)
    point = [float(c.replace(",", "")) for c in cells]
    comma = [float(c.replace(".", "").replace(",", ".")) for c in cells]
    assert numbers(*cells, said="point") == point
    assert numbers(*cells, said="comma") == comma


def test_two_signs_in_one_column_are_asked_about() -> None:
    with pytest.raises(
        SettingsError, match=r"1 values .* decimal point and 1 with a decimal comma"
    ):
        numbers("12,50", "12.50")
    assert numbers("12,50", "12.50", said="point") == [None, 12.5]


def test_a_column_follows_the_others_of_its_file() -> None:
    found = read_numbers({"price": pa.array(["1,250"]), "total": pa.array(["12.50"])})
    assert found["price"].values.tolist() == [1250.0]


@settings(max_examples=80, derandomize=True, deadline=None, database=None)
@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_money_is_read_right_or_asked_for(cents: list[int], comma: bool, grouped: bool) -> None:
    cells = [f"{c / 100:,.2f}" if grouped else f"{c / 100:.2f}" for c in cents]
    if comma:
        cells = [c.translate(str.maketrans(".,", ",.")) for c in cells]
    assert numbers(*cells) == [c / 100 for c in cents]
